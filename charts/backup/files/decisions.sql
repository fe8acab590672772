-- What the manifest says of the decision log's database.
SELECT json_build_object(
    'taken_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'server_version', current_setting('server_version'),
    'size_bytes', pg_database_size(current_database()),
    'revision', (SELECT version_num FROM public.alembic_version));
