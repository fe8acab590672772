{{/*
The groups of rules as {"groups": [...]}: the alerts of files/alerts.yaml and those of the SLOs. PrometheusRule and the
chart's own Prometheus take them from here.
*/}}
{{- define "monitoring.rules" -}}
{{- $namespace := printf "namespace=%q" .Release.Namespace }}
{{- $operator := printf "namespace=%q" (.Values.operatorNamespace | default .Release.Namespace) }}
{{- $groups := list }}
{{- range $name := list "service" "rollouts" "decisions" "backups" "training" "drift" "platform" }}
{{- $rules := list }}
{{- range $.Files.Get "files/alerts.yaml" | fromYamlArray }}
{{- $settings := index $.Values.alerts .alert | default dict }}
{{- if and (eq .group $name) (ne (toString $settings.enabled) "false") }}
{{- $expression := .expr | replace "NAMESPACE" $namespace | replace "OPERATOR" $operator }}
{{- $expression = $expression | replace "THRESHOLD" (toString $settings.threshold) }}
{{- $rules = append $rules (include "monitoring.alert" (list $ .alert $expression $settings.for .severity .summary .description) | fromYaml) }}
{{- end }}
{{- end }}
{{- with $rules }}
{{- $groups = append $groups (dict "name" $name "rules" .) }}
{{- end }}
{{- end }}
{{- range .Values.slos }}
{{- $groups = append $groups (include "monitoring.slo" (list $ . $namespace) | fromYaml) }}
{{- end }}
{{- dict "groups" $groups | toYaml }}
{{- end }}

{{/* An alert. Call with (list $ NAME EXPRESSION FOR SEVERITY SUMMARY DESCRIPTION); FOR may be empty. */}}
{{- define "monitoring.alert" -}}
{{- $root := first . }}
{{- $runbook := printf "%s#alert-%s" $root.Values.runbooks (lower (index . 1)) }}
{{- $labels := dict "severity" (index . 4) "namespace" $root.Release.Namespace }}
{{- $annotations := dict "summary" (index . 5) "description" (index . 6) "runbook_url" $runbook }}
{{- $alert := dict "alert" (index . 1) "expr" (index . 2) "labels" $labels "annotations" $annotations }}
{{- with index . 3 }}
{{- $_ := set $alert "for" . }}
{{- end }}
{{- toYaml $alert }}
{{- end }}

{{/*
The rules of an SLO: the share of bad events in each window, and one alert for each pair of windows in which the error
budget burns too fast (The Site Reliability Workbook, chapter 5, as Sloth generates it). Call with (list $ SLO NAMESPACE).
*/}}
{{- define "monitoring.slo" -}}
{{- $root := index . 0 }}
{{- $slo := index . 1 }}
{{- $namespace := index . 2 }}
{{- $windows := list }}
{{- range $root.Values.burnRates }}
{{- $windows = concat $windows (list .short .long) | uniq }}
{{- end }}
{{- $rules := list }}
{{- range $window := $windows }}
{{- $errors := $slo.errors | replace "NAMESPACE" $namespace | replace "WINDOW" $window }}
{{- $total := $slo.total | replace "NAMESPACE" $namespace | replace "WINDOW" $window }}
{{- $ratio := printf "(%s) / ((%s) > 0)" $errors $total }}
{{- $labels := dict "slo" $slo.name "namespace" $root.Release.Namespace }}
{{- $rules = append $rules (dict "record" (printf "slo:error_ratio:rate%s" $window) "expr" $ratio "labels" $labels) }}
{{- end }}
{{- range $burn := $root.Values.burnRates }}
{{- $tests := list }}
{{- range $window := list .long .short }}
{{- $tests = append $tests (printf "slo:error_ratio:rate%s{%s, slo=%q} > %v * (1 - %v / 100)" $window $namespace $slo.name $burn.factor $slo.objective) }}
{{- end }}
{{- $summary := printf "The error budget of the SLO %s burns %v times as fast as it may" $slo.name $burn.factor }}
{{- $description := printf "Over the last %s and the last %s. The objective: %s" $burn.long $burn.short $slo.description }}
{{- $alert := include "monitoring.alert" (list $root "SloBurnRate" (join " and on () " $tests) "" .severity $summary $description) | fromYaml }}
{{- $_ := merge $alert.labels (dict "slo" $slo.name "window" .long) }}
{{- $rules = append $rules $alert }}
{{- end }}
{{- dict "name" (printf "slo-%s" $slo.name) "rules" $rules | toYaml }}
{{- end }}
