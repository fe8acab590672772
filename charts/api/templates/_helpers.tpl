{{/* The labels that select the stable pods. The operator's canary pods have another track. */}}
{{- define "api.selector" -}}
{{ include "common.selector" . }}
creditrisk.io/track: stable
{{- end }}

{{/* topologySpreadConstraints if the values contain none: across nodes and across zones, as far as possible. */}}
{{- define "api.spread" -}}
{{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
- {maxSkew: 1, topologyKey: {{ . }}, whenUnsatisfiable: ScheduleAnyway}
{{- end }}
{{- end }}

{{/* The scorer's environment. */}}
{{- define "api.env" -}}
- {name: SCORER_REGISTRY_URL, value: {{ .Values.mlflowUrl | quote }}}
- {name: SCORER_MODEL_NAME, value: {{ .Values.model.name | quote }}}
- {name: SCORER_MODEL_ALIAS, value: {{ .Values.model.alias | quote }}}
- {name: SCORER_MODEL_STAGE, value: {{ .Values.model.stage | quote }}}
- {name: SCORER_BASE_POINTS, value: {{ .Values.scorecard.basePoints | quote }}}
- {name: SCORER_BASE_ODDS, value: {{ .Values.scorecard.baseOdds | quote }}}
- {name: SCORER_PDO, value: {{ .Values.scorecard.pointsToDouble | quote }}}
- {name: SCORER_AUDIT_LOG, value: {{ .Values.auditLog | quote }}}
- {name: SCORER_CACHE_DIR, value: /var/cache/scorer}
- {name: SCORER_ACCESS_MODE, value: {{ .Values.access.mode }}}
{{- if eq .Values.access.mode "oidc" }}
{{- with .Values.access.oidc }}
- {name: SCORER_OIDC_ISSUER, value: {{ required "access.oidc.issuer is required if access.mode is oidc" .issuer | quote }}}
- {name: SCORER_OIDC_AUDIENCE, value: {{ required "access.oidc.audience is required if access.mode is oidc" .audience | quote }}}
- {name: SCORER_OIDC_KEYS_URL, value: {{ .keysUrl | quote }}}
- {name: SCORER_OIDC_SCOPE, value: {{ .scope | quote }}}
- {name: SCORER_OIDC_CLIENT_CLAIM, value: {{ .clientClaim | quote }}}
{{- end }}
{{- end }}
- {name: SCORER_ROOT_PATH, value: {{ .Values.ingress.path | default "/" | quote }}}
- {name: SCORER_CORS_ALLOWED_ORIGINS, value: {{ (.Values.cors).allowedOrigins | default list | toJson | quote }}}
- {name: SCORER_MAX_CONCURRENT_REQUESTS, value: {{ .Values.limits.concurrentRequests | quote }}}
- {name: SCORER_MAX_CONNECTIONS, value: {{ .Values.limits.connections | quote }}}
- name: SCORER_MODEL_VERSION
  valueFrom:
    fieldRef: {fieldPath: "metadata.annotations['creditrisk.io/model-version']"}
- name: SCORER_POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR") }}
{{- end }}

{{/* The environment of the test. */}}
{{- define "api.testEnv" -}}
- {name: ACCESS_MODE, value: {{ .Values.access.mode }}}
{{- if eq .Values.access.mode "apiKeys" }}
- name: API_KEY
  valueFrom:
    secretKeyRef: {name: scoring-api-key, key: key, optional: true}
{{- end }}
{{- end }}

{{/* "true" if the chart generates the API key of the client `default`. */}}
{{- define "api.generatesKey" -}}
{{- and (eq .Values.access.mode "apiKeys") (not .Values.access.apiKeys.secret) | ternary "true" "" }}
{{- end }}

{{/*
The generated API key, base64-encoded. An existing key is kept. Two Secrets need the same key (one holds it, the other
its hash) and each template file renders on its own, so a new key is remembered in .Values until the rendering ends.
*/}}
{{- define "api.generatedKey" -}}
{{- if not (hasKey .Values "generatedKey") }}
{{- $found := (lookup "v1" "Secret" .Release.Namespace "scoring-api-key").data | default dict }}
{{- $_ := set .Values "generatedKey" (index $found "key" | default (randAlphaNum 43 | b64enc)) }}
{{- end }}
{{- .Values.generatedKey }}
{{- end }}
