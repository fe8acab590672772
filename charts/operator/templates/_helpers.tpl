{{/* The namespaces in which ModelPromotions are followed, as {"names": [...]}. */}}
{{- define "operator.namespaces" -}}
{{- dict "names" (.Values.namespaces | default (list .Release.Namespace)) | toJson }}
{{- end }}
