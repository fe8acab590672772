{{/* The environment of the server. */}}
{{- define "postgres.env" -}}
- {name: PGDATA, value: {{ .Values.dataDirectory }}}
{{- range $variable, $key := dict "POSTGRES_USER" "username" "POSTGRES_PASSWORD" "password" "POSTGRES_DB" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- end }}
