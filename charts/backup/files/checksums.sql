-- One row per table that holds rows itself, partitions one by one: its name, its number of rows, and a checksum of their contents that does not depend on their order.
-- The psql variable `into` is put in front of each query: empty to print the rows, an INSERT to keep them.
SET timezone = 'UTC';
SET datestyle = 'ISO, YMD';
SET intervalstyle = 'postgres';
SET bytea_output = 'hex';
SET extra_float_digits = 1;
SELECT format(
    '%s SELECT %L, count(*), coalesce(sum((''x'' || left(encode(sha256(convert_to(table_row::text, ''UTF8'')), ''hex''), 15))'
    '::bit(60)::bigint), 0) FROM %I.%I AS table_row',
    :'into', n.nspname || '.' || c.relname, n.nspname, c.relname)
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(temp|toast)'
ORDER BY n.nspname, c.relname \gexec
