{{/* The environment of the containers. */}}
{{- define "monitoring.env" -}}
# Go's own limit: it collects garbage harder before the container is killed.
- name: GOMEMLIMIT
  valueFrom:
    resourceFieldRef: {resource: limits.memory}
{{- end }}

{{/* The configuration of Prometheus. */}}
{{- define "monitoring.prometheusConfig" -}}
global:
  scrape_interval: {{ .Values.scrapeInterval }}
  evaluation_interval: {{ .Values.scrapeInterval }}
rule_files: [/etc/prometheus/rules.yaml]
alerting:
  alertmanagers:
    - static_configs: [{targets: ["127.0.0.1:9093"]}]
scrape_configs:
  {{- range $chart, $ports := include "monitoring.targets" . | fromJson }}
  {{- range $name, $port := $ports }}
  - job_name: {{ $chart }}-{{ $name }}
    # The operator's metrics name the namespace that they are about.
    honor_labels: true
    dns_sd_configs:
      # A headless Service has addresses of one family.
      {{- range $family := list "A" "AAAA" }}
      - {names: [{{ $chart }}-metrics.{{ $.Release.Namespace }}.svc], type: {{ $family }}, port: {{ $port }}, refresh_interval: {{ $.Values.scrapeInterval }}}
      {{- end }}
    relabel_configs:
      - {target_label: job, replacement: {{ $chart }}}
      - {target_label: namespace, replacement: {{ $.Release.Namespace | quote }}}
  {{- end }}
  {{- end }}
  - job_name: monitoring
    static_configs:
      - targets: ["127.0.0.1:9090", "127.0.0.1:9093"]
        labels: {namespace: {{ .Release.Namespace | quote }}}
  {{- with .Values.probes.targets }}
  - job_name: probes
    metrics_path: /probe
    params: {module: [https]}
    scrape_interval: {{ $.Values.probes.interval }}
    static_configs:
      - targets: {{ toJson . }}
        labels: {namespace: {{ $.Release.Namespace | quote }}}
    relabel_configs:
      - {source_labels: [__address__], target_label: __param_target}
      - {source_labels: [__param_target], target_label: instance}
      - {target_label: __address__, replacement: "127.0.0.1:9115"}
  {{- end }}
{{- end }}

{{/* The configuration of the prober: any answer will do, because what is asked is whether there is one, and over which certificate. */}}
{{- define "monitoring.blackboxConfig" -}}
modules:
  https:
    prober: http
    timeout: 10s
    http:
      method: GET
      valid_status_codes: [200, 401, 403, 404]
      {{- if .Values.probes.insecureSkipVerify }}
      tls_config: {insecure_skip_verify: true}
      {{- else if include "common.caBundle" . }}
      tls_config: {ca_file: /etc/creditrisk/ca/ca.crt}
      {{- end }}
{{- end }}

{{/* A container. Call with (list $ NAME IMAGE ARGUMENTS PORTNAME PORT READY ALIVE MOUNTS), where READY and ALIVE are paths. */}}
{{- define "monitoring.container" -}}
{{- $root := first . -}}
{{- $name := index . 1 -}}
- name: {{ $name }}
  image: {{ include "common.image" (index . 2) }}
  imagePullPolicy: {{ (index . 2).pullPolicy }}
  command: [{{ $name }}]
  args: {{- index . 3 | toYaml | nindent 4 }}
  securityContext: {{- include "common.containerSecurityContext" $root | nindent 4 }}
  {{- include "common.env" (list $root (include "monitoring.env" $root)) | nindent 2 }}
  ports:
    - {name: {{ index . 4 }}, containerPort: {{ index . 5 }}, protocol: TCP}
  startupProbe:
    # A write-ahead log is replayed first.
    httpGet: {path: {{ index . 6 }}, port: {{ index . 4 }}}
    periodSeconds: 2
    timeoutSeconds: 5
    failureThreshold: 300
  readinessProbe:
    httpGet: {path: {{ index . 6 }}, port: {{ index . 4 }}}
    periodSeconds: 5
    timeoutSeconds: 5
  livenessProbe:
    httpGet: {path: {{ index . 7 }}, port: {{ index . 4 }}}
    periodSeconds: 20
    timeoutSeconds: 5
    failureThreshold: 6
  resources: {{- include "common.resources" $root.Values.resources | nindent 4 }}
  volumeMounts: {{- concat (index . 8) (include "common.caMount" $root | fromYamlArray) | toYaml | nindent 4 }}
{{- end }}
