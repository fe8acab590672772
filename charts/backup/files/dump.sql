-- Describe and dump the database from one snapshot, however much is written meanwhile.
SET statement_timeout = 0;
-- This session waits inside its transaction while pg_dump works.
SET idle_in_transaction_session_timeout = 0;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
SELECT pg_export_snapshot() AS snapshot \gset
\setenv SNAPSHOT :snapshot
\set into ''
\o tables.tsv
\ir checksums.sql
\o database.json
\ir :describe
\o
\! pg_dump --format=custom --no-owner --snapshot="$SNAPSHOT" --file=database.partial && mv database.partial database.dump
COMMIT;
