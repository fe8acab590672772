{{/* The namespaces whose ModelPromotions the operator follows, as {"names": [...]}. */}}
{{- define "operator.namespaces" -}}
{{- dict "names" (.Values.namespaces | default (list .Release.Namespace)) | toJson }}
{{- end }}

{{/* The operator's environment. */}}
{{- define "operator.env" -}}
- {name: PROMOTER_REGISTRY_URL, value: {{ .Values.mlflowUrl | quote }}}
- {name: PROMOTER_NAMESPACES, value: {{ join "," (include "operator.namespaces" . | fromJson).names | quote }}}
- {name: PROMOTER_POLL_SECONDS, value: {{ .Values.pollSeconds | quote }}}
{{- range $name, $path := dict "NAMESPACE" "metadata.namespace" "NAME" "metadata.name" "UID" "metadata.uid" }}
- name: PROMOTER_POD_{{ $name }}
  valueFrom:
    fieldRef: {fieldPath: {{ $path }}}
{{- end }}
{{- with .Values.webhook.secretName }}
- name: PROMOTER_WEBHOOK_SECRET
  valueFrom:
    secretKeyRef: {name: {{ . }}, key: secret}
{{- end }}
{{- with include "operator.timelineUrl" . }}
- {name: PROMOTER_TIMELINE_URL, value: {{ . | quote }}}
{{- if $.Values.timeline.secret }}
- {name: PROMOTER_TIMELINE_KEY_FILE, value: /etc/creditrisk/decisions/key}
{{- end }}
{{- end }}
{{- with include "operator.checksUrl" . }}
- {name: PROMOTER_CHECKS_URL, value: {{ . | quote }}}
{{- if $.Values.timeline.secret }}
- {name: PROMOTER_CHECKS_KEY_FILE, value: /etc/creditrisk/decisions/key}
{{- end }}
{{- end }}
{{- with include "operator.driftUrl" . }}
- {name: PROMOTER_DRIFT_URL, value: {{ . | quote }}}
- {name: PROMOTER_DRIFT_SECONDS, value: {{ dig "seconds" 300 ($.Values.drift | default dict) | quote }}}
{{- if $.Values.timeline.secret }}
- {name: PROMOTER_DRIFT_KEY_FILE, value: /etc/creditrisk/decisions/key}
{{- end }}
{{- end }}
{{- if include "operator.retraining" . }}
- {name: PROMOTER_RETRAINING, value: "true"}
{{- end }}
{{- with include "operator.notifications" . }}
- {name: PROMOTER_NOTIFICATIONS, value: {{ . | quote }}}
{{- end }}
{{- if include "operator.page" . }}
- {name: PROMOTER_PAGE_PORT, value: "8081"}
- {name: PROMOTER_PAGE_PATH, value: {{ .Values.page.path | quote }}}
- {name: PROMOTER_PAGE_ACCESS, value: {{ .Values.page.access.mode }}}
- {name: PROMOTER_PAGE_FOLLOWERS, value: {{ .Values.page.followers | quote }}}
{{- end }}
{{- if include "operator.approvals" . }}
- {name: PROMOTER_APPROVALS_CERTIFICATE, value: /etc/creditrisk/approvals}
{{- end }}
{{- include "common.tracingEnvironment" (list . "PROMOTER") }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR") }}
{{- end }}

{{/* "true" if pauses may ask for approvals. Releases before 0.2 had none. */}}
{{- define "operator.approvals" -}}
{{- with .Values.approvals }}
{{- if .enabled }}true{{ end }}
{{- end }}
{{- end }}

{{/* "true" if trainings may be started. Releases before 0.2 started none. */}}
{{- define "operator.retraining" -}}
{{- with .Values.retraining }}{{ if .enabled }}true{{ end }}{{ end }}
{{- end }}

{{/* The name of the Secret with the webhook's certificate. */}}
{{- define "operator.approvalsSecret" -}}
{{- .Values.approvals.certificate.secretName | default "operator-approvals" }}
{{- end }}

{{/*
The webhook's certificate as the data of a Secret. An existing one is kept. Two templates need the same one, and each
renders on its own, so a new one is remembered in .Values until the rendering ends.
*/}}
{{- define "operator.approvalsCertificate" -}}
{{- if not (hasKey .Values "approvalsCertificate") }}
{{- $data := (lookup "v1" "Secret" .Release.Namespace (include "operator.approvalsSecret" .)).data | default dict }}
{{- if not (and (index $data "ca.crt") (index $data "tls.crt") (index $data "tls.key")) }}
{{- $host := printf "operator.%s.svc" .Release.Namespace }}
{{- $authority := genCA "approvals of model promotions" 3650 }}
{{- $made := genSignedCert $host nil (list $host) 3650 $authority }}
{{- $data = dict "ca.crt" (b64enc $authority.Cert) "tls.crt" (b64enc $made.Cert) "tls.key" (b64enc $made.Key) }}
{{- end }}
{{- $_ := set .Values "approvalsCertificate" (pick $data "ca.crt" "tls.crt" "tls.key") }}
{{- end }}
{{- toJson .Values.approvalsCertificate }}
{{- end }}

{{/* "true" if the page is on. Earlier releases had none. */}}
{{- define "operator.page" -}}
{{- with .Values.page }}{{ if .enabled }}true{{ end }}{{ end }}
{{- end }}

{{/* "true" if a key for the page is generated. */}}
{{- define "operator.generatesPageKey" -}}
{{- if include "operator.page" . }}
{{- if and (eq .Values.page.access.mode "apiKeys") (not .Values.page.access.secret) }}true{{ end }}
{{- end }}
{{- end }}

{{/* The Secret with the hashes of the keys for the page; empty if it asks for none. */}}
{{- define "operator.pageSecret" -}}
{{- if include "operator.page" . }}
{{- if eq .Values.page.access.mode "apiKeys" }}{{ .Values.page.access.secret | default "operator-page-access" }}{{ end }}
{{- end }}
{{- end }}

{{/* The URL of the decisions service; empty if there is none. Releases before 0.2 had no timeline. */}}
{{- define "operator.decisionsUrl" -}}
{{- with .Values.timeline }}{{ .url | default .releaseUrl | default "" }}{{ end }}
{{- end }}

{{/* The URL to report the timeline to; empty to report nothing. */}}
{{- define "operator.timelineUrl" -}}
{{- if dig "enabled" false (.Values.timeline | default dict) }}{{ include "operator.decisionsUrl" . }}{{ end }}
{{- end }}

{{/* The URL to ask about canaries; empty to ask nobody. Releases before 0.2 had no checks. */}}
{{- define "operator.checksUrl" -}}
{{- if dig "enabled" true (.Values.checks | default dict) }}{{ include "operator.decisionsUrl" . }}{{ end }}
{{- end }}

{{/* The URL to ask for drift reports; empty to ask nobody. Releases before 0.2 had none. */}}
{{- define "operator.driftUrl" -}}
{{- if dig "enabled" true (.Values.drift | default dict) }}{{ include "operator.decisionsUrl" . }}{{ end }}
{{- end }}

{{/* The name of the Secret with the key for the decisions service; empty if it is not used. */}}
{{- define "operator.decisionsSecret" -}}
{{- if or (include "operator.timelineUrl" .) (include "operator.checksUrl" .) (include "operator.driftUrl" .) }}{{ .Values.timeline.secret }}{{ end }}
{{- end }}
