{{/* The ports with metrics, by the chart whose pods have them, as JSON. */}}
{{- define "monitoring.targets" -}}
{{- dict "api" (list "management" "shipper") "operator" (list "http") "decisions" (list "management") "backup" (list "metrics") | toJson }}
{{- end }}

{{/* The PodMonitor of a chart's pods, where the cluster has the kind. Call with (list $ CHART). */}}
{{- define "monitoring.podMonitor" -}}
{{- $root := first . }}
{{- if $root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor" }}
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata:
  name: {{ last . }}
  labels: {{- merge (include "common.labels" $root | fromYaml) $root.Values.labels | toYaml | nindent 4 }}
spec:
  # The pods' label becomes the label `job`, as it does in the chart's own Prometheus.
  jobLabel: app.kubernetes.io/name
  selector:
    matchLabels:
      app.kubernetes.io/name: {{ last . }}
      app.kubernetes.io/instance: {{ $root.Release.Name }}
  podMetricsEndpoints:
    {{- range index (include "monitoring.targets" $root | fromJson) (last .) }}
    - port: {{ . }}
      interval: {{ $root.Values.scrapeInterval }}
      # The operator's metrics name the namespace that they are about.
      honorLabels: true
    {{- end }}
{{- end }}
{{- end }}
