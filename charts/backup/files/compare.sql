-- Compare every restored table with what the backup counted; a difference rolls the whole restore back.
CREATE TEMPORARY TABLE expected (name text, row_count bigint, checksum numeric) ON COMMIT DROP;
CREATE TEMPORARY TABLE restored (name text, row_count bigint, checksum numeric) ON COMMIT DROP;
\copy pg_temp.expected FROM 'tables.tsv'
\set into 'INSERT INTO pg_temp.restored'
\ir checksums.sql
DO $$
DECLARE
    difference text;
BEGIN
    SELECT string_agg(format('%s: %s rows expected, %s found%s', coalesce(e.name, r.name),
                             coalesce(e.row_count::text, 'no'), coalesce(r.row_count::text, 'no'),
                             CASE WHEN e.row_count = r.row_count THEN ' with other contents' ELSE '' END), E'\n')
    INTO difference
    FROM pg_temp.expected AS e FULL JOIN pg_temp.restored AS r ON r.name = e.name
    WHERE (e.row_count, e.checksum) IS DISTINCT FROM (r.row_count, r.checksum);
    IF difference IS NOT NULL THEN
        RAISE EXCEPTION E'the restored tables differ from the backup:\n%', difference;
    END IF;
END
$$;
