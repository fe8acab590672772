-- What the manifest says of MLflow's database.
-- Older MLflow schemas have no workspaces: the column is read from the row as JSON, where it may be absent.
SELECT json_build_object(
    'taken_at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
    'server_version', current_setting('server_version'),
    'size_bytes', pg_database_size(current_database()),
    'mlflow_revision', (SELECT version_num FROM public.alembic_version),
    'versions', (
        SELECT coalesce(json_agg(json_build_object(
            'name', v.name, 'version', v.version, 'location', coalesce(v.storage_location, v.source, ''),
            'digests', (
                SELECT coalesce(json_object_agg(substr(t.key, 8), t.value), '{}'::json)
                FROM public.model_version_tags AS t
                WHERE t.name = v.name AND t.version = v.version AND t.key LIKE 'sha256.%'
                    AND to_jsonb(t) ->> 'workspace' IS NOT DISTINCT FROM to_jsonb(v) ->> 'workspace'
            )) ORDER BY v.name, v.version), '[]'::json)
        FROM public.model_versions AS v));
