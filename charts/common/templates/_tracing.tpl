{{/*
The environment of a program that exports traces, of the values `tracing`. Releases before 0.2 had none, which
`helm upgrade --reuse-values` keeps. Call with (list $ PREFIX), where PREFIX begins the names of the program's variables.
*/}}
{{- define "common.tracingEnvironment" -}}
{{- $root := index . 0 }}
{{- $prefix := index . 1 }}
{{- with $root.Values.tracing }}
{{- if .endpoint }}
- {name: {{ $prefix }}_TRACING_ENDPOINT, value: {{ .endpoint | quote }}}
{{- if hasKey . "ratio" }}
- {name: {{ $prefix }}_TRACING_RATIO, value: {{ .ratio | quote }}}
{{- end }}
{{- with .headersSecret }}
- name: OTEL_EXPORTER_OTLP_TRACES_HEADERS
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: headers}
{{- end }}
{{- include "common.caEnvironment" (list $root "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE") }}
{{- end }}
{{- end }}
{{- end }}
