{{/* The ports with metrics, by name, of the charts whose pods have them, as JSON. */}}
{{- define "monitoring.targets" -}}
{{- $api := dict "management" 9090 "shipper" 9091 }}
{{- dict "api" $api "operator" (dict "http" 8080) "decisions" (dict "management" 9091) "backup" (dict "metrics" 9092) "bulk" (dict "metrics" 9093) | toJson }}
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
    {{- range $port, $_ := index (include "monitoring.targets" $root | fromJson) (last .) }}
    - port: {{ $port }}
      interval: {{ $root.Values.scrapeInterval }}
      # The operator's metrics name the namespace that they are about.
      honorLabels: true
    {{- end }}
{{- end }}
{{- end }}

{{/*
The headless Service by whose DNS name the chart's own Prometheus finds a chart's pods, without access to the API server.
Call with (list $ CHART).
*/}}
{{- define "monitoring.service" -}}
{{- $root := first . }}
{{- $chart := last . }}
{{- if $root.Values.prometheus.enabled }}
apiVersion: v1
kind: Service
metadata:
  name: {{ $chart }}-metrics
  labels: {{- merge (dict "app.kubernetes.io/name" $chart) (include "common.labels" $root | fromYaml) | toYaml | nindent 4 }}
spec:
  clusterIP: None
  # What is not ready has metrics too.
  publishNotReadyAddresses: true
  selector:
    app.kubernetes.io/name: {{ $chart }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
  ports:
    {{- range $name, $port := index (include "monitoring.targets" $root | fromJson) $chart }}
    - {name: {{ $name }}, port: {{ $port }}, targetPort: {{ $name }}, protocol: TCP}
    {{- end }}
{{- end }}
{{- end }}
