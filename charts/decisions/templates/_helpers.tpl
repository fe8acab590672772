{{/* The labels that select the pods of the service. Pods of the CronJobs have the same name and instance. */}}
{{- define "decisions.selector" -}}
{{ include "common.selector" . }}
creditrisk.io/component: service
{{- end }}

{{/* The labels of a pod. Call with (list $ COMPONENT). */}}
{{- define "decisions.podLabels" -}}
{{ include "common.podLabels" (first .) }}
creditrisk.io/component: {{ last . }}
{{- end }}

{{/* The name of the Secret with the hashes of the clients' keys. */}}
{{- define "decisions.accessSecret" -}}
{{ .Values.access.secret | default "decisions-access" }}
{{- end }}

{{/* The permissions of each part of the stack that is a client of its own, by the client's name, as JSON. */}}
{{- define "decisions.parts" -}}
{{- /* Releases without them keep their values with `helm upgrade --reuse-values`. */}}
{{- $wanted := ternary (dict "operator" (list "timeline:write" "decisions:check" "drift:read") "training" (list "decisions:read")) (dict) (ne (.Values.access.parts | toString) "false") }}
{{- toJson $wanted }}
{{- end }}

{{/* The roles that the service connects as, beside its own, as JSON. Releases without checks keep their values. */}}
{{- define "decisions.checker" -}}
{{- ternary (list "checker") list (dig "sql" false (.Values.checks | default dict)) | toJson }}
{{- end }}

{{/* The Secret with the API key of a part of the stack. Call with (list $ PART). */}}
{{- define "decisions.partKey" -}}
{{- $name := printf "decisions-%s-key" (last .) -}}
# The API key of the client `{{ last . }}`. Generated once and kept on upgrades.
apiVersion: v1
kind: Secret
metadata:
  name: {{ $name }}
  labels: {{- include "common.labels" (first .) | nindent 4 }}
type: Opaque
data:
  key: {{ include "common.generatedKey" (list (first .) $name) }}
{{- end }}

{{/* The clients of each permission, those of the stack included. */}}
{{- define "decisions.permissions" -}}
{{- $permissions := deepCopy .Values.access.permissions }}
{{- range $client, $granted := include "decisions.parts" . | fromJson }}
{{- range $permission := $granted }}
{{- $_ := set $permissions $permission (append (index $permissions $permission | default list) $client | uniq) }}
{{- end }}
{{- end }}
{{- toJson $permissions }}
{{- end }}

{{/* The environment of the container that creates the database, its roles and its tables. */}}
{{- define "decisions.migrateEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "owner") }}
{{- if .Values.database.createRoles }}
# The administrator's own database, to connect to before the one of the decision log exists.
- {name: DECISIONS_ADMIN_URL, value: "postgresql://{{ .Values.global.database.host }}:{{ .Values.global.database.port }}/?connect_timeout=10&target_session_attrs=read-write"}
- {name: DECISIONS_ROLE_PASSWORDS_DIR, value: /etc/creditrisk/database}
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.database.adminSecret | default $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- end }}
{{- end }}

{{/* The environment of the service. */}}
{{- define "decisions.serveEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "service" "any") }}
{{ include "common.decisionsStoreEnvironment" . }}
- {name: DECISIONS_MLFLOW_URL, value: {{ .Values.mlflowUrl | quote }}}
- {name: DECISIONS_PERMISSIONS, value: {{ include "decisions.permissions" . | quote }}}
{{- with .Values.access.oidc }}
{{- if .issuer }}
- {name: DECISIONS_OIDC_ISSUER, value: {{ .issuer | quote }}}
- {name: DECISIONS_OIDC_AUDIENCE, value: {{ required "access.oidc.audience is required with access.oidc.issuer" .audience | quote }}}
- {name: DECISIONS_OIDC_KEYS_URL, value: {{ .keysUrl | quote }}}
- {name: DECISIONS_OIDC_SCOPE, value: {{ .scope | quote }}}
- {name: DECISIONS_OIDC_CLIENT_CLAIM, value: {{ .clientClaim | quote }}}
{{- end }}
{{- end }}
{{- range include "decisions.checker" . | fromJsonArray }}
- {name: DECISIONS_CHECKER_PASSWORD_FILE, value: /etc/creditrisk/database/{{ . }}}
{{- end }}
{{- with .Values.replay }}
- {name: DECISIONS_REPLAY_VERSIONS, value: {{ .versions | quote }}}
- {name: DECISIONS_REPLAY_MEMORY_MEBIBYTES, value: {{ .memoryMebibytes | quote }}}
- {name: DECISIONS_REPLAY_MODEL_MEBIBYTES, value: {{ .maxModelMebibytes | quote }}}
{{- end }}
{{- with .Values.scorecard }}
- {name: DECISIONS_BASE_POINTS, value: {{ .basePoints | quote }}}
- {name: DECISIONS_BASE_ODDS, value: {{ .baseOdds | quote }}}
- {name: DECISIONS_PDO, value: {{ .pointsToDouble | quote }}}
{{- end }}
{{- include "common.tracingEnvironment" (list . "DECISIONS") }}
{{- end }}

{{/* The environment of the container that makes the bucket. */}}
{{- define "decisions.bucketEnv" -}}
{{ include "common.decisionsStoreEnvironment" . }}
{{- end }}

{{/* The environment of the archive. */}}
{{- define "decisions.archiveEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "owner") }}
{{ include "common.decisionsStoreEnvironment" . }}
{{ include "common.decisionsSealEnvironment" . }}
- {name: DECISIONS_MLFLOW_URL, value: {{ .Values.mlflowUrl | quote }}}
- {name: DECISIONS_RETENTION_MONTHS, value: {{ .Values.archive.retentionMonths | quote }}}
{{- end }}

{{/* The environment of the verification. */}}
{{- define "decisions.verifyEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "reader") }}
{{ include "common.decisionsStoreEnvironment" . }}
{{ include "common.decisionsSealEnvironment" . }}
{{- end }}

{{/* The environment of the Job that loads outcomes. */}}
{{- define "decisions.load-outcomesEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "service") }}
{{ include "common.decisionsStoreEnvironment" . }}
{{- end }}

{{/* The environment of the drift report. */}}
{{- define "decisions.driftEnv" -}}
{{ include "common.decisionsDatabaseEnvironment" (list . "service") }}
{{ include "common.decisionsStoreEnvironment" . }}
- {name: DECISIONS_MLFLOW_URL, value: {{ .Values.mlflowUrl | quote }}}
{{- end }}

{{/* The arguments of the drift report, as JSON. Something that drifted is a result, and no failure of the Job. */}}
{{- define "decisions.driftArguments" -}}
{{- /* Releases without them keep their values with `helm upgrade --reuse-values`; the command has the same defaults. */}}
{{- $drift := .Values.drift | default dict }}
{{- $arguments := list "--publish" "--exit-zero" }}
{{- range $key, $option := dict "days" "days" "compareDays" "compare-days" "psiLimit" "psi-limit" "shareLimit" "share-limit" "confidence" "confidence" "maturedMonths" "matured-months" "memoryMebibytes" "memory-mebibytes" }}
{{- if hasKey $drift $key }}
{{- $arguments = concat $arguments (list (printf "--%s" $option) (get $drift $key | toString)) }}
{{- end }}
{{- end }}
{{- if $drift.model }}
{{- $arguments = concat $arguments (list "--model" $drift.model) }}
{{- end }}
{{- range $drift.segments }}
{{- $arguments = concat $arguments (list "--segment" .) }}
{{- end }}
{{- toJson $arguments }}
{{- end }}

{{/*
A CronJob. Call with a dict:
  root: the chart's root context
  command: the sub-command, which also names the CronJob
  arguments: those of the sub-command; none if not given
  role: the database role that it needs
  schedule: when it runs; without one, it is a template for Jobs that are created by hand
*/}}
{{- define "decisions.cronJob" -}}
{{- $root := .root -}}
apiVersion: batch/{{ semverCompare ">=1.21.0-0" $root.Capabilities.KubeVersion.Version | ternary "v1" "v1beta1" }}
kind: CronJob
metadata:
  name: decisions-{{ .command }}
  labels: {{- include "common.labels" $root | nindent 4 }}
spec:
  # 30 February.
  schedule: {{ .schedule | default "0 0 30 2 *" | quote }}
  suspend: {{ empty .schedule }}
  concurrencyPolicy: Forbid
  jobTemplate:
    metadata:
      labels: {{- include "common.labels" $root | nindent 8 }}
    spec:
      backoffLimit: {{ $root.Values.backoffLimit }}
      activeDeadlineSeconds: {{ $root.Values.activeDeadlineSeconds }}
      {{- if semverCompare ">=1.26.0-0" $root.Capabilities.KubeVersion.Version }}
      # Retrying helps neither against settings that cannot be used nor against a difference that was found.
      podFailurePolicy:
        rules:
          - action: FailJob
            onExitCodes: {containerName: {{ .command }}, operator: In, values: [2, 3]}
      {{- end }}
      template:
        metadata:
          labels: {{- include "decisions.podLabels" (list $root .command) | nindent 12 }}
          {{- include "common.podAnnotations" (list $root dict) | nindent 10 }}
        spec:
          {{- if include "common.s3Role" $root }}
          serviceAccountName: {{ $root.Chart.Name }}
          {{- end }}
          restartPolicy: Never
          automountServiceAccountToken: false
          enableServiceLinks: false
          securityContext: {{- include "common.podSecurityContext" 10001 | nindent 12 }}
          {{- include "common.podSettings" (dict "root" $root) | nindent 10 }}
          containers:
            - name: {{ .command }}
              image: {{ include "common.image" $root.Values.image }}
              imagePullPolicy: {{ $root.Values.image.pullPolicy }}
              args: {{ concat (list .command) (.arguments | default list) | toJson }}
              securityContext: {{- include "common.containerSecurityContext" $root | nindent 16 }}
              {{- include "common.env" (list $root (include (printf "decisions.%sEnv" .command) $root)) | nindent 14 }}
              resources: {{- include "common.resources" $root.Values.resources | nindent 16 }}
              volumeMounts:
                - {name: database, mountPath: /etc/creditrisk/database, readOnly: true}
                - {name: tmp, mountPath: /tmp}
                {{- include "common.s3TokenMount" $root | nindent 16 }}
                {{- include "common.caMount" $root | nindent 16 }}
          volumes:
            {{- include "common.decisionsPasswords" (list $root "database" .role) | nindent 12 }}
            - name: tmp
              emptyDir: {sizeLimit: {{ $root.Values.workspace.sizeLimit }}}
            {{- include "common.s3TokenVolume" $root | nindent 12 }}
            {{- include "common.caVolume" $root | nindent 12 }}
{{- end }}
