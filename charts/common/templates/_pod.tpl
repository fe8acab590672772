{{/*
Pod settings that every chart takes: nodeSelector, tolerations, affinity, topologySpreadConstraints, priorityClassName
and imagePullSecrets (the chart's own and the global ones). Call with a dict:
  root: the chart's root context
  spread: topologySpreadConstraints to use if the values contain none
  selector: the labels that select the pods, for topologySpreadConstraints without a labelSelector, which Kubernetes
    would otherwise apply to no pod; common.selector by default
  omit: a list of settings to leave out
*/}}
{{- define "common.podSettings" -}}
{{- $values := .root.Values }}
{{- $settings := dict }}
{{- range $name := list "nodeSelector" "tolerations" "affinity" "priorityClassName" }}
{{- with index $values $name }}
{{- $_ := set $settings $name . }}
{{- end }}
{{- end }}
{{- $selector := .selector | default (include "common.selector" .root) | fromYaml }}
{{- $spread := list }}
{{- range $values.topologySpreadConstraints | default .spread }}
{{- $default := hasKey . "labelSelector" | ternary dict (dict "labelSelector" (dict "matchLabels" $selector)) }}
{{- $spread = append $spread (merge (dict) . $default) }}
{{- end }}
{{- with $spread }}
{{- $_ := set $settings "topologySpreadConstraints" . }}
{{- end }}
{{- $global := $values.global | default dict }}
{{- with concat ($values.imagePullSecrets | default list) ($global.imagePullSecrets | default list) | uniq }}
{{- $_ := set $settings "imagePullSecrets" . }}
{{- end }}
{{- range .omit }}
{{- $_ := unset $settings . }}
{{- end }}
{{- with $settings }}
{{- toYaml . }}
{{- end }}
{{- end }}

{{/* The labels of a pod: the chart's and podLabels. */}}
{{- define "common.podLabels" -}}
{{- range $name, $_ := .Values.podLabels }}
{{- if regexMatch `^(app\.kubernetes\.io/(name|instance|part-of|version|managed-by)$|helm\.sh/|creditrisk\.io/)` $name }}
{{- fail (printf "podLabels: %s is reserved: the chart sets it" $name) }}
{{- end }}
{{- end }}
{{- include "common.labels" . }}
{{- with .Values.podLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/*
The annotations of a pod with their key, or nothing if there are none: the chart's, and podAnnotations, which win. Call
with (list $ ANNOTATIONS), where ANNOTATIONS is a dict.
*/}}
{{- define "common.podAnnotations" -}}
{{- $extra := (index . 0).Values.podAnnotations | default dict }}
{{- range $name, $_ := $extra }}
{{- if regexMatch `^(helm\.sh|checksum|creditrisk\.io)/` $name }}
{{- fail (printf "podAnnotations: %s is reserved: the chart or the operator sets it" $name) }}
{{- end }}
{{- end }}
{{- with merge (dict) $extra (index . 1) -}}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
The annotations by which a Prometheus without PodMonitors finds a port with metrics, as JSON. Where the cluster has the
kind, the chart monitoring makes PodMonitors, and a Prometheus that follows both must not count everything twice. Call
with (list $ PORT).
*/}}
{{- define "common.scrapeAnnotations" -}}
{{- if (first .).Capabilities.APIVersions.Has "monitoring.coreos.com/v1/PodMonitor" }}
{{- dict "prometheus.io/scrape" "false" | toJson }}
{{- else }}
{{- dict "prometheus.io/scrape" "true" "prometheus.io/port" (last .) | toJson }}
{{- end }}
{{- end }}

{{/*
The environment of a container with its key, or nothing if it is empty: the chart's variables, then extraEnv. A variable
in extraEnv replaces the chart's of the same name, because a list with duplicate names fails a server-side apply. Call
with (list $ VARIABLES NAMES...), where VARIABLES is a YAML list and NAMES are variables that must not be replaced.
*/}}
{{- define "common.env" -}}
{{- $reserved := slice . 2 }}
{{- $extra := (index . 0).Values.extraEnv | default list }}
{{- $replaced := dict }}
{{- range $extra }}
{{- if has .name $reserved }}
{{- fail (printf "extraEnv: %s is reserved: the operator relies on the chart's value" .name) }}
{{- end }}
{{- if hasKey $replaced .name }}
{{- fail (printf "extraEnv: %s appears twice" .name) }}
{{- end }}
{{- if and (hasKey . "value") (hasKey . "valueFrom") }}
{{- fail (printf "extraEnv: %s has both value and valueFrom: set one of them" .name) }}
{{- end }}
{{- $_ := set $replaced .name true }}
{{- end }}
{{- $env := list }}
{{- range index . 1 | fromYamlArray }}
{{- if not (hasKey $replaced .name) }}
{{- $env = append $env . }}
{{- end }}
{{- end }}
{{- with concat $env $extra -}}
env: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
A container's resources. Quantities become text: Helm 4's server-side apply refuses a number, such as `cpu: 1`.
Call with a `resources` value.
*/}}
{{- define "common.resources" -}}
{{- $result := dict -}}
{{- range $kind, $quantities := . -}}
  {{- $texts := dict -}}
  {{- range $name, $quantity := $quantities -}}
    {{- $_ := set $texts $name (toString $quantity) -}}
  {{- end -}}
  {{- $_ := set $result $kind $texts -}}
{{- end -}}
{{- toYaml $result -}}
{{- end }}
