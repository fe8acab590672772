{{/* global.caBundle as JSON, nothing if none is set. All templates below render nothing without a bundle. */}}
{{- define "common.caBundle" -}}
{{- $bundle := (.Values.global | default dict).caBundle | default dict }}
{{- if and $bundle.configMap $bundle.secret }}
{{- fail "global.caBundle: set configMap or secret, not both" }}
{{- end }}
{{- if or $bundle.configMap $bundle.secret }}
{{- toJson $bundle }}
{{- end }}
{{- end }}

{{/*
Variables that make programs trust the bundle. Call with (list $ NAMES...): SSL_CERT_FILE and SSL_CERT_DIR (OpenSSL, and
with it Python's ssl, aiohttp and urllib3), REQUESTS_CA_BUNDLE (requests, MLflow), AWS_CA_BUNDLE (boto3).
*/}}
{{- define "common.caEnvironment" -}}
{{- if include "common.caBundle" (first .) }}
{{- range rest . }}
- name: {{ . }}
  value: {{ eq . "SSL_CERT_DIR" | ternary "/etc/creditrisk/ca" "/etc/creditrisk/ca/ca.crt" }}
{{- end }}
{{- end }}
{{- end }}

{{/*
Variables that make libpq verify the database's certificate with the bundle. Not for the stack's own Postgres, which has
no TLS.
*/}}
{{- define "common.caDatabaseEnvironment" -}}
{{- if and (include "common.caBundle" .) (ne .Values.global.database.host "postgres") }}
- {name: PGSSLMODE, value: verify-full}
- {name: PGSSLROOTCERT, value: /etc/creditrisk/ca/ca.crt}
{{- end }}
{{- end }}

{{/* The mount of the bundle. */}}
{{- define "common.caMount" -}}
{{- if include "common.caBundle" . -}}
- {name: ca-bundle, mountPath: /etc/creditrisk/ca, readOnly: true}
{{- end }}
{{- end }}

{{/* The volume with the bundle. */}}
{{- define "common.caVolume" -}}
{{- with include "common.caBundle" . }}
{{- $bundle := fromJson . }}
{{- $items := list (dict "key" $bundle.key "path" "ca.crt") | toJson -}}
- name: ca-bundle
  {{- if $bundle.configMap }}
  configMap: {name: {{ $bundle.configMap }}, items: {{ $items }}}
  {{- else }}
  secret: {secretName: {{ $bundle.secret }}, items: {{ $items }}}
  {{- end }}
{{- end }}
{{- end }}
