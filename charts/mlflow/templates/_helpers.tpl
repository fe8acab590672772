{{/* Every name under which the server answers: its check of the Host header is a whitelist, port included. */}}
{{- define "mlflow.allowedHosts" -}}
{{- $names := list "localhost" "127.0.0.1" "mlflow" (printf "mlflow.%s" .Release.Namespace) (printf "mlflow.%s.svc" .Release.Namespace) (printf "mlflow.%s.svc.cluster.local" .Release.Namespace) }}
{{- $hosts := list }}
{{- range $names }}{{ $hosts = concat $hosts (list . (printf "%s:*" .)) }}{{ end }}
{{- join "," (concat $hosts .Values.allowedHosts) }}
{{- end }}

{{/* The driver is named, because SQLAlchemy 2.1 prefers another one. No secret is part of the address: user and password reach the driver through libpq's own variables. */}}
{{- define "mlflow.databaseEnvironment" -}}
- name: MLFLOW_BACKEND_STORE_URI
  value: postgresql+psycopg2://{{ .Values.global.database.host }}:{{ .Values.global.database.port }}/
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- end }}
