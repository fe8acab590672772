{{/*
A generated API key, base64-encoded. An existing key is kept. Two Secrets need the same key (one holds it, the other its
hash) and each template file renders on its own, so a new key is remembered in .Values until the rendering ends. Call
with (list $ NAME), where NAME is that of the Secret with the key.
*/}}
{{- define "common.generatedKey" -}}
{{- $root := first . }}
{{- if not (hasKey $root.Values "generatedKeys") }}
{{- $_ := set $root.Values "generatedKeys" dict }}
{{- end }}
{{- if not (hasKey $root.Values.generatedKeys (last .)) }}
{{- $found := (lookup "v1" "Secret" $root.Release.Namespace (last .)).data | default dict }}
{{- $_ := set $root.Values.generatedKeys (last .) (index $found "key" | default (randAlphaNum 43 | b64enc)) }}
{{- end }}
{{- index $root.Values.generatedKeys (last .) }}
{{- end }}

{{/* The Secret with the API key of the client `default`. Call with (list $ NAME). */}}
{{- define "common.keySecret" -}}
{{- $root := first . -}}
# The API key of the client `default`. Generated once and kept on upgrades; clients inside the cluster read it here.
apiVersion: v1
kind: Secret
metadata:
  name: {{ last . }}
  labels: {{- include "common.labels" $root | nindent 4 }}
type: Opaque
data:
  key: {{ include "common.generatedKey" . }}
{{- end }}

{{/* The Secret with the hashes of all clients' keys. Call with (list $ NAME KEY), where KEY is the Secret with the key. */}}
{{- define "common.accessSecret" -}}
{{- $root := first . }}
{{- $name := index . 1 }}
{{- $key := (lookup "v1" "Secret" $root.Release.Namespace (last .)).data }}
{{- $hashes := (lookup "v1" "Secret" $root.Release.Namespace $name).data | default dict }}
{{- /* If both Secrets exist and `default` was removed from this one, it stays removed. */}}
{{- if or (not $key) (not $hashes) }}
{{- $hash := include "common.generatedKey" (list $root (last .)) | b64dec | sha256sum | b64enc }}
{{- $hashes = merge (dict "default" $hash) $hashes }}
{{- end -}}
# What the service knows about its clients: the SHA-256 of each client's keys. Entries that others add are kept.
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  labels: {{- include "common.labels" $root | nindent 4 }}
type: Opaque
data: {{- toYaml $hashes | nindent 2 }}
{{- end }}
