{{/*
Every host name under which the server can be reached. MLflow checks the Host header against this list, port included.
*/}}
{{- define "mlflow.allowedHosts" -}}
{{- $names := list "localhost" "127.0.0.1" "mlflow" (printf "mlflow.%s" .Release.Namespace) (printf "mlflow.%s.svc" .Release.Namespace) (printf "mlflow.%s.svc.cluster.local" .Release.Namespace) }}
{{- $hosts := list }}
{{- range $names }}{{ $hosts = concat $hosts (list . (printf "%s:*" .)) }}{{ end }}
{{- join "," (concat $hosts .Values.allowedHosts) }}
{{- end }}

{{/* The environment of everything that connects to the database and to S3. */}}
{{- define "mlflow.clientEnv" -}}
- name: MLFLOW_BACKEND_STORE_URI
  value: {{ include "common.databaseUri" . | quote }}
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- include "common.s3Environment" . }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR" "REQUESTS_CA_BUNDLE" "AWS_CA_BUNDLE") }}
{{- include "common.caDatabaseEnvironment" . }}
{{- end }}

{{/* The environment of the init container. */}}
{{- define "mlflow.prepareEnv" -}}
- {name: DATABASE_HOST, value: {{ .Values.global.database.host | quote }}}
- {name: DATABASE_PORT, value: {{ .Values.global.database.port | quote }}}
- {name: BUCKETS, value: "{{ .Values.global.s3.artifactBucket }},{{ .Values.global.s3.dataBucket }}"}
{{ include "mlflow.clientEnv" . }}
{{- end }}

{{/*
The environment of the server. It opens a connection for each transaction: a pool of 15, SQLAlchemy's default, is too
small for the server's 40 threads, whose requests would fail after 30 s, and keeps using connections that a failover has
left read-only. While the database accepts no writes, requests that only read are still answered, by the second URI.
*/}}
{{- define "mlflow.env" -}}
- {name: MLFLOW_SERVER_ENABLE_JOB_EXECUTION, value: "false"}
- {name: MLFLOW_SQLALCHEMYSTORE_POOLCLASS, value: NullPool}
- name: MLFLOW_READ_REPLICA_BACKEND_STORE_URI
  value: {{ include "common.databaseUriForReading" . | quote }}
{{ include "mlflow.clientEnv" . }}
{{- end }}
