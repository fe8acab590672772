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
- {name: SCORER_PAIRING, value: {{ ne (toString (.Values.pairing | default dict).enabled) "false" | quote }}}
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
{{- with include "api.decisionLog" . }}
- {name: SCORER_DECISION_LOG, value: {{ . }}}
- {name: SCORER_DECISION_LOG_DIR, value: /var/lib/decisions}
- {name: SCORER_DECISION_LOG_MAX_BYTES, value: {{ mul $.Values.decisionLog.maxMebibytes 1048576 | quote }}}
{{- end }}
{{- include "common.tracingEnvironment" (list . "SCORER") }}
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

{{/* The mode of the decision log; empty if it is off. YAML reads an unquoted `off` as false; earlier releases had none. */}}
{{- define "api.decisionLog" -}}
{{- $mode := (.Values.decisionLog | default dict).mode | default "off" }}
{{- ne $mode "off" | ternary $mode "" }}
{{- end }}

{{/* "true" if the shipper may upload what waits to S3 when its pod ends. */}}
{{- define "api.handsOver" -}}
{{- if and (include "api.decisionLog" .) (.Values.decisionLog | default dict).handOver }}true{{ end }}
{{- end }}

{{/* "true" if the shipper assumes an AWS role to do so. */}}
{{- define "api.handsOverWithRole" -}}
{{- if include "api.handsOver" . }}
{{- if and (not .Values.decisionLog.handOverSecret) (include "common.s3Role" .) }}true{{ end }}
{{- end }}
{{- end }}

{{/* How long a pod may take to end: as long as the service, and then the shipper. */}}
{{- define "api.gracePeriod" -}}
{{- $shipper := (.Values.decisionLog | default dict).shutdownSeconds | default 0 }}
{{- include "api.decisionLog" . | empty | ternary 45 (add 45 $shipper) }}
{{- end }}

{{/* The environment of the shipper. */}}
{{- define "api.shipperEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "writer") }}
- {name: DECISIONS_LOG_DIR, value: /var/lib/decisions}
- name: DECISIONS_POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
# From SIGTERM on, which both containers get at once; 3 s less than the pod has.
- {name: DECISIONS_SHUTDOWN_SECONDS, value: {{ sub (include "api.gracePeriod" . | int) 3 | quote }}}
{{- if include "api.handsOver" . }}
{{- $own := .Values.decisionLog.handOverSecret }}
{{- $s3 := $own | empty | ternary .Values.global.s3 (merge (dict "secret" $own "roleArns" dict) (omit .Values.global.s3 "roleArns")) }}
{{- $values := dict "global" (merge (dict "s3" $s3) (omit .Values.global "s3")) }}
{{ include "common.decisionsStoreEnvironment" (dict "Values" $values "Chart" .Chart "Release" .Release) }}
{{- end }}
{{- end }}

{{/* The container that sends decisions to Postgres. */}}
{{- define "api.shipper" -}}
- name: shipper
  image: {{ include "common.image" .Values.decisionLog.image }}
  imagePullPolicy: {{ .Values.decisionLog.image.pullPolicy }}
  args: [ship]
  securityContext: {{- include "common.containerSecurityContext" . | nindent 4 }}
  {{- include "common.env" (list . (include "api.shipperEnv" .) "DECISIONS_POD_NAME") | nindent 2 }}
  ports:
    - {name: shipper, containerPort: 9091, protocol: TCP}
  startupProbe:
    httpGet: {path: /healthz, port: shipper}
    periodSeconds: 1
    timeoutSeconds: 5
    failureThreshold: 60
  # Not /readyz, which says whether decisions reach Postgres: the pod would stop scoring while it is away.
  readinessProbe:
    httpGet: {path: /healthz, port: shipper}
    periodSeconds: 5
    timeoutSeconds: 5
    failureThreshold: 3
  livenessProbe:
    httpGet: {path: /healthz, port: shipper}
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources: {{- include "common.resources" .Values.decisionLog.resources | nindent 4 }}
  volumeMounts:
    - {name: decisions, mountPath: /var/lib/decisions}
    - {name: database, mountPath: /etc/creditrisk/database, readOnly: true}
    - {name: shipper-tmp, mountPath: /tmp}
    {{- if include "api.handsOverWithRole" . }}
    {{- include "common.s3TokenMount" . | nindent 4 }}
    {{- end }}
    {{- include "common.caMount" . | nindent 4 }}
{{- end }}

{{/* The volumes of the decision log. */}}
{{- define "api.decisionLogVolumes" -}}
# Not by subPath: on a volume that pods share, each takes over what pods that are gone left behind. The service makes a
# folder with its pod's name.
- name: decisions
  {{- $room := div (mul 3 .Values.decisionLog.maxMebibytes) 2 }}
  {{- .Values.decisionLog.volume | default (dict "emptyDir" (dict "sizeLimit" (printf "%dMi" $room))) | toYaml | nindent 2 }}
{{ include "common.decisionsPasswords" (list . "database" "writer") }}
- name: shipper-tmp
  emptyDir: {sizeLimit: 64Mi}
{{- if include "api.handsOverWithRole" . }}
{{- include "common.s3TokenVolume" . }}
{{- end }}
{{- end }}
