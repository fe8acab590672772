-- One row per table: its name, its number of rows, and a checksum of their contents that does not depend on their order.
-- The psql variable `into` is put in front of each query: empty to print the rows, an INSERT to keep them.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 1;
SELECT format(
    '%s SELECT %L, count(*), coalesce(sum((''x'' || left(encode(sha256(convert_to(table_row::text, ''UTF8'')), ''hex''), 15))'
    '::bit(60)::bigint), 0) FROM %I.%I AS table_row',
    :'into', schemaname || '.' || tablename, schemaname, tablename)
FROM pg_catalog.pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname !~ '^pg_(temp|toast)'
ORDER BY schemaname, tablename \gexec
