{{/* global.decisions as JSON. `helm upgrade --reuse-values` from a release without it gets the defaults. */}}
{{- define "common.decisions" -}}
{{- $defaults := dict "database" "decisions" "secret" "decisions-database" "bucket" "decisions" "sealBucket" "" "prefix" "decisions" }}
{{- merge (dict) ((.Values.global | default dict).decisions | default dict) $defaults | toJson }}
{{- end }}

{{/*
The URL of the decision log's database, without a password. A server that has vanished without closing its connections is
noticed after 25 s. Call with (list $ ROLE); all wait for a server that accepts writes. With (list $ ROLE "any") also one
that does not is good enough, to read from.
*/}}
{{- define "common.decisionsUrl" -}}
{{- $root := first . }}
{{- $decisions := include "common.decisions" $root | fromJson }}
{{- $database := $root.Values.global.database -}}
postgresql://decisions_{{ index . 1 }}@{{ $database.host }}:{{ $database.port }}/{{ $decisions.database }}?connect_timeout=10&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000
{{- if ne (last .) "any" }}&target_session_attrs=read-write{{ end }}
{{- end }}

{{/* The environment of a program that connects to the decision log's database. Call as common.decisionsUrl. */}}
{{- define "common.decisionsDatabaseEnvironment" -}}
- {name: DECISIONS_DATABASE_URL, value: {{ include "common.decisionsUrl" . | quote }}}
- {name: DECISIONS_DATABASE_PASSWORD_FILE, value: /etc/creditrisk/database/{{ index . 1 }}}
{{- include "common.caDatabaseEnvironment" (first .) }}
{{- end }}

{{/* The environment of a program that keeps parts of the decision log in S3. */}}
{{- define "common.decisionsStoreEnvironment" -}}
{{- $decisions := include "common.decisions" . | fromJson -}}
- {name: DECISIONS_S3_BUCKET, value: {{ $decisions.bucket | quote }}}
- {name: DECISIONS_S3_PREFIX, value: {{ $decisions.prefix | quote }}}
{{- with include "common.s3Endpoint" . }}
- {name: DECISIONS_S3_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
{{- include "common.s3Environment" . }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR" "AWS_CA_BUNDLE") }}
{{- end }}

{{/* The bucket of the seals, if it is one of their own. */}}
{{- define "common.decisionsSealEnvironment" -}}
{{- with (include "common.decisions" . | fromJson).sealBucket -}}
- {name: DECISIONS_SEAL_BUCKET, value: {{ . | quote }}}
{{- end }}
{{- end }}

{{/* The volume with the passwords of roles. Call with (list $ NAME ROLES...), where NAME is the volume's. */}}
{{- define "common.decisionsPasswords" -}}
{{- $decisions := include "common.decisions" (first .) | fromJson -}}
- name: {{ index . 1 }}
  secret:
    secretName: {{ $decisions.secret }}
    items:
      {{- range slice . 2 }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
