{{/* The labels that select a chart's pods. Selectors are immutable: never change these. */}}
{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/part-of: credit-risk
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* The image reference: repository@digest if there is a digest, else repository:tag. Call with an `image` value. */}}
{{- define "common.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ required "image.tag or image.digest is required" .tag }}{{ end }}
{{- end }}

{{/* A pod's security context. Call with the UID that its image runs as. */}}
{{- define "common.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* A container's security context. */}}
{{- define "common.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* A NetworkPolicyPeer: the pods of another chart of this release. Call with (list $ "chart"). */}}
{{- define "common.peer" -}}
{{- $root := index . 0 -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: {{ index . 1 }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}

{{/*
The SQLAlchemy URI of the database, for connections that write. It names the driver, because SQLAlchemy 2.1 prefers a
different one, and contains no credentials: libpq reads them from variables of its own. A server that accepts no writes,
such as a standby during a failover, is refused, as if it were down: clients then wait for one that does instead of
failing. A server that has vanished without closing its connections is noticed after 25 s.
*/}}
{{- define "common.databaseUri" -}}
{{ include "common.databaseUriForReading" . }}&target_session_attrs=read-write
{{- end }}

{{/* The same for connections that only read, which a server that accepts no writes answers too. */}}
{{- define "common.databaseUriForReading" -}}
postgresql+psycopg2://{{ .Values.global.database.host }}:{{ .Values.global.database.port }}/?connect_timeout=10&keepalives_idle=10&keepalives_interval=5&keepalives_count=3&tcp_user_timeout=25000
{{- end }}
