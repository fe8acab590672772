{{/* "true" if the chart generates the API key of the client `default` itself. */}}
{{- define "api.generatesKey" -}}
{{- and (eq .Values.access.mode "apiKeys") (not .Values.access.apiKeys.secret) | ternary "true" "" }}
{{- end }}

{{/*
The generated API key, base64. An existing key is kept. Two Secrets need the same one (one the key, one its hash), and
each template file renders by itself, so a new key is remembered in .Values for as long as this rendering takes.
*/}}
{{- define "api.generatedKey" -}}
{{- if not (hasKey .Values "generatedKey") }}
{{- $found := (lookup "v1" "Secret" .Release.Namespace "scoring-api-key").data | default dict }}
{{- $_ := set .Values "generatedKey" (index $found "key" | default (randAlphaNum 43 | b64enc)) }}
{{- end }}
{{- .Values.generatedKey }}
{{- end }}
