{{/* Connection to the database by libpq's variables. */}}
{{- define "backup.databaseEnv" -}}
- {name: WORKSPACE, value: /workspace}
- {name: PGHOST, value: {{ .Values.global.database.host | quote }}}
- {name: PGPORT, value: {{ .Values.global.database.port | quote }}}
- {name: PGCONNECT_TIMEOUT, value: "10"}
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- include "common.caDatabaseEnvironment" . }}
{{- end }}

{{/* Connection to the decision log's database, as its owner; without a password if there is no decision log. */}}
{{- define "backup.decisionsEnv" -}}
{{- $decisions := include "common.decisions" . | fromJson -}}
- {name: WORKSPACE, value: /workspace/decisions}
- {name: PGHOST, value: {{ .Values.global.database.host | quote }}}
- {name: PGPORT, value: {{ .Values.global.database.port | quote }}}
- {name: PGCONNECT_TIMEOUT, value: "10"}
- {name: PGUSER, value: decisions_owner}
- {name: PGDATABASE, value: {{ $decisions.database | quote }}}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $decisions.secret }}, key: owner, optional: true}
{{- include "common.caDatabaseEnvironment" . }}
{{- end }}

{{/* The artifacts' store, the backups' store, and what is kept. */}}
{{- define "backup.storeEnv" -}}
- {name: WORKSPACE, value: /workspace}
- {name: BACKUP_ARTIFACT_BUCKET, value: {{ .Values.global.s3.artifactBucket | quote }}}
{{- with .Values.destination }}
- {name: BACKUP_BUCKET, value: {{ .bucket | quote }}}
- {name: BACKUP_PREFIX, value: {{ .prefix | quote }}}
- {name: BACKUP_SSE, value: {{ .sse | quote }}}
- {name: BACKUP_SSE_KMS_KEY_ID, value: {{ .kmsKeyId | quote }}}
{{- with .s3 }}
- {name: BACKUP_S3_ENDPOINT_URL, value: {{ .endpoint | default "" | quote }}}
- {name: BACKUP_S3_REGION, value: {{ required "destination.s3.region is required" .region | quote }}}
{{- if .secret }}
- name: BACKUP_S3_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: access-key-id}
- name: BACKUP_S3_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: secret-access-key}
{{- end }}
{{- end }}
{{- end }}
- {name: BACKUP_RETENTION_COUNT, value: {{ .Values.retention.count | quote }}}
- {name: BACKUP_RETENTION_DAYS, value: {{ .Values.retention.days | quote }}}
- {name: BACKUP_ALLOW_EMPTY, value: {{ .Values.allowEmpty | quote }}}
{{ include "common.s3Environment" . }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR" "AWS_CA_BUNDLE") }}
{{- end }}

{{/* The environment of the container that restores the artifacts. */}}
{{- define "backup.fetchEnv" -}}
# The backup's id, or `latest`: set in the Job that is created from this template.
- {name: BACKUP_FROM, value: ""}
{{ include "backup.storeEnv" . }}
{{- end }}

{{/* The environment of the container that verifies a restore: it reads both the database and the artifacts. */}}
{{- define "backup.verifyEnv" -}}
- name: MLFLOW_BACKEND_STORE_URI
  value: postgresql+psycopg2://{{ .Values.global.database.host }}:{{ .Values.global.database.port }}/
{{ include "backup.storeEnv" . }}
{{- range include "backup.databaseEnv" . | fromYamlArray }}
{{- if ne .name "WORKSPACE" }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end }}
{{- end }}

{{/* A container of the Postgres image that runs a script. Call with (list $ NAME SCRIPT ENV), where ENV is a template. */}}
{{- define "backup.postgresContainer" -}}
{{- $root := first . -}}
- name: {{ index . 1 }}
  image: {{ include "common.image" $root.Values.postgresImage }}
  imagePullPolicy: {{ $root.Values.postgresImage.pullPolicy }}
  command: [sh, /etc/backup/{{ index . 2 }}]
  securityContext: {{- include "common.containerSecurityContext" $root | nindent 4 }}
  {{- include "common.env" (list $root (include (index . 3) $root)) | nindent 2 }}
  resources: {{- include "common.resources" $root.Values.resources | nindent 4 }}
  volumeMounts:
    - {name: scripts, mountPath: /etc/backup, readOnly: true}
    - {name: workspace, mountPath: /workspace}
    - {name: tmp, mountPath: /tmp}
    {{- include "common.caMount" $root | nindent 4 }}
{{- end }}

{{/* A container of the MLflow image. Call with (list $ NAME COMMAND ENV), where COMMAND is a list and ENV a template. */}}
{{- define "backup.storeContainer" -}}
{{- $root := first . -}}
- name: {{ index . 1 }}
  image: {{ include "common.image" $root.Values.image }}
  imagePullPolicy: {{ $root.Values.image.pullPolicy }}
  command: {{ concat (list "python" "-m" "backup") (index . 2) | toJson }}
  securityContext: {{- include "common.containerSecurityContext" $root | nindent 4 }}
  {{- include "common.env" (list $root (include (index . 3) $root)) | nindent 2 }}
  resources: {{- include "common.resources" $root.Values.resources | nindent 4 }}
  volumeMounts:
    - {name: workspace, mountPath: /workspace}
    - {name: tmp, mountPath: /tmp}
    {{- include "common.s3TokenMount" $root | nindent 4 }}
    {{- include "common.caMount" $root | nindent 4 }}
{{- end }}

{{/* The apiVersion of a CronJob. */}}
{{- define "backup.cronJobVersion" -}}
batch/{{ semverCompare ">=1.21.0-0" .Capabilities.KubeVersion.Version | ternary "v1" "v1beta1" }}
{{- end }}

{{/* Fields of a Job. Call with (list $ CONTAINERS...): containers whose exit codes 2 and 3 mean that retrying is useless. */}}
{{- define "backup.jobSettings" -}}
{{- $root := first . -}}
backoffLimit: {{ $root.Values.backoffLimit }}
activeDeadlineSeconds: {{ $root.Values.activeDeadlineSeconds }}
{{- if semverCompare ">=1.26.0-0" $root.Capabilities.KubeVersion.Version }}
podFailurePolicy:
  rules:
    {{- range rest . }}
    - action: FailJob
      onExitCodes: {containerName: {{ . }}, operator: In, values: [2, 3]}
    {{- end }}
{{- end }}
{{- end }}

{{/* Fields of a pod of a Job, apart from its containers. */}}
{{- define "backup.podSpec" -}}
{{- if include "common.s3Role" . }}
serviceAccountName: {{ .Chart.Name }}
{{- end }}
restartPolicy: Never
automountServiceAccountToken: false
enableServiceLinks: false
securityContext: {{- include "common.podSecurityContext" .Values.uid | nindent 2 }}
{{- include "common.podSettings" (dict "root" .) | nindent 0 }}
volumes:
  - name: scripts
    configMap: {name: backup-scripts}
  - name: workspace
    emptyDir: {sizeLimit: {{ .Values.workspace.sizeLimit }}}
  - {name: tmp, emptyDir: {}}
  {{- include "common.s3TokenVolume" . | nindent 2 }}
  {{- include "common.caVolume" . | nindent 2 }}
{{- end }}
