{{/* The trainer's arguments, as a YAML list. */}}
{{- define "training.arguments" -}}
- --data={{ .Values.data }}
{{- /* Releases before 0.2 called it `promote`, which `helm upgrade --reuse-values` keeps. */}}
{{- $pointer := .Values.productionPointer | default "auto" }}
- --production-pointer={{ eq $pointer "auto" | ternary (.Values.promote | default $pointer) $pointer }}
{{- if .Values.excludeProtected }}
- --exclude-protected
{{- end }}
{{- if .Values.features }}
- --features=/etc/trainer/features.json
{{- end }}
{{- /* Releases before 0.2 had none, which `helm upgrade --reuse-values` keeps; the trainer's default needs no argument. */}}
{{- if ne (.Values.threshold | default "ks-maximum" | toString) "ks-maximum" }}
- --threshold={{ .Values.threshold }}
{{- end }}
{{- if eq (.Values.split | default "shuffled") "time" }}
- --split=time
{{- end }}
{{- /* Releases before 0.2 had none. */}}
{{- if ne (.Values.rejectInference | default "none") "none" }}
- --reject-inference={{ .Values.rejectInference }}
{{- end }}
{{- range $values := list .Values.hyperparameters .Values.gates .Values.calibration }}
{{- range $name, $value := $values }}
{{- if kindIs "bool" $value }}
{{- if $value }}
- --{{ kebabcase $name }}
{{- end }}
{{- else }}
- --{{ kebabcase $name }}={{ $value }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.search.trials }}
- --trials={{ .Values.search.trials }}
{{- if include "training.canBeIndexed" . }}
- --workers={{ .Values.search.workers }}
{{- end }}
{{- end }}
{{- $processes := .Values.processes | default 1 | int }}
{{- if include "training.peers" . }}
- --processes={{ $processes }}
- --pods={{ .Values.pods }}
{{- else if or (gt $processes 1) (gt (include "training.pods" . | int) 1) }}
- --processes={{ mul $processes (include "training.pods" .) }}
{{- end }}
{{- range .Values.args }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* The trainer's environment. A hyperparameter search keeps its study in the database. */}}
{{- define "training.env" -}}
- {name: MLFLOW_TRACKING_URI, value: {{ .Values.mlflowUrl | quote }}}
- {name: TRAINER_WORK_DIR, value: /var/lib/trainer}
- {name: TRAINER_SCRATCH_DIR, value: /var/lib/scratch}
- {name: TRAINER_SCRATCH_SIZE, value: {{ include "training.scratchSize" . | quote }}}
# Lets a retry of the same Job recognize that its model was refused already, and not train it again.
- name: TRAINER_JOB
  valueFrom:
    fieldRef: {fieldPath: "metadata.labels['job-name']"}
{{- if include "training.peers" . }}
# The first pod of an Indexed Job, in its headless Service.
- {name: TRAINER_RENDEZVOUS, value: "$(TRAINER_JOB)-0.training-peers:29400"}
{{- end }}
{{- if .Retraining }}
# Why the operator started the Job; it sets the annotation.
- name: TRAINER_REASON
  valueFrom:
    fieldRef: {fieldPath: "metadata.annotations['creditrisk.io/training-reason']"}
# The operator's turn, if it is traced.
- name: TRACEPARENT
  valueFrom:
    fieldRef: {fieldPath: "metadata.annotations['creditrisk.io/traceparent']"}
{{- end }}
{{- include "common.tracingEnvironment" (list . "TRAINER") }}
- name: TRAINER_STUDY_STORAGE
  value: {{ include "common.databaseUri" . | quote }}
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- if include "training.fromDecisions" . }}
- {name: TRAINER_DECISIONS_URL, value: {{ .Values.decisions.url | quote }}}
{{- if .Values.decisions.secret }}
- {name: TRAINER_DECISIONS_KEY_FILE, value: /etc/creditrisk/decisions/key}
{{- end }}
{{- end }}
{{- include "common.s3Environment" . }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR" "REQUESTS_CA_BUNDLE" "AWS_CA_BUNDLE") }}
{{- include "common.caDatabaseEnvironment" . }}
{{- end }}

{{/* "true" if the data are decisions, else "". */}}
{{- define "training.fromDecisions" -}}
{{- if or (eq .Values.data "decisions") (hasPrefix "decisions:" .Values.data) }}true{{ end }}
{{- end }}

{{/* The Secret with the key for the decisions service; empty if none is needed. */}}
{{- define "training.decisionsSecret" -}}
{{- if include "training.fromDecisions" . }}{{ .Values.decisions.secret }}{{ end }}
{{- end }}

{{/* How many pods train one network together. Releases before 0.2 had no such value. */}}
{{- define "training.pods" -}}
{{- $pods := .Values.pods | default 1 | int }}
{{- if and .Values.search.trials (gt (mul $pods (.Values.processes | default 1)) 1) }}
{{- fail "search.trials is for search.workers; pods and processes are for a training without a search" }}
{{- end }}
{{- $pods }}
{{- end }}

{{/* "true" if Jobs can be Indexed, else "". */}}
{{- define "training.canBeIndexed" -}}
{{- if semverCompare ">=1.22.0-0" .Capabilities.KubeVersion.Version }}true{{ end }}
{{- end }}

{{/* "true" if the pods of an Indexed Job train one network together, else "". */}}
{{- define "training.peers" -}}
{{- if and (gt (include "training.pods" . | int) 1) (include "training.canBeIndexed" .) }}true{{ end }}
{{- end }}

{{/* "true" if the pods of an Indexed Job share the trials of a search or one training, else "". */}}
{{- define "training.indexed" -}}
{{- if or (include "training.peers" .) (and .Values.search.trials (include "training.canBeIndexed" .)) }}true{{ end }}
{{- end }}

{{/* Size of the scratch volume. Releases before 0.2 had none, which `helm upgrade --reuse-values` keeps. */}}
{{- define "training.scratchSize" -}}
{{- (.Values.scratch | default dict).size | default "10Gi" }}
{{- end }}

{{/* The spec of a Job. */}}
{{- define "training.job" -}}
{{- $indexed := include "training.indexed" . -}}
{{- $peers := include "training.peers" . -}}
{{- $completions := eq $peers "true" | ternary .Values.pods .Values.search.workers -}}
backoffLimit: {{ .Values.backoffLimit }}
activeDeadlineSeconds: {{ .Values.activeDeadlineSeconds }}
{{- if $indexed }}
completionMode: Indexed
completions: {{ $completions }}
parallelism: {{ $completions }}
{{- end }}
{{- if semverCompare ">=1.26.0-0" .Capabilities.KubeVersion.Version }}
podFailurePolicy:
  rules:
    # Retrying helps neither against bad data nor against a model that failed a gate.
    - action: FailJob
      onExitCodes: {containerName: training, operator: In, values: [2, 3]}
    # Drained nodes and evicted pods say nothing about the training, which resumes: no retry is used up.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
{{- end }}
template:
  metadata:
    labels: {{- include "common.podLabels" . | nindent 6 }}
    {{- include "common.podAnnotations" (list . dict) | nindent 4 }}
  spec:
    {{- if include "common.s3Role" . }}
    serviceAccountName: {{ .Chart.Name }}
    {{- end }}
    {{- if $peers }}
    subdomain: training-peers
    {{- end }}
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    securityContext: {{- include "common.podSecurityContext" 10001 | nindent 6 }}
    {{- include "common.podSettings" (dict "root" .) | nindent 4 }}
    containers:
      - name: training
        image: {{ include "common.image" .Values.image }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        args: {{- include "training.arguments" . | nindent 10 }}
        securityContext: {{- include "common.containerSecurityContext" . | nindent 10 }}
        {{- include "common.env" (list . (include "training.env" .)) | nindent 8 }}
        {{- if $peers }}
        ports:
          - {name: peers, containerPort: 29400, protocol: TCP}
        {{- end }}
        resources: {{- include "common.resources" .Values.resources | nindent 10 }}
        volumeMounts:
          - {name: checkpoints, mountPath: /var/lib/trainer}
          - {name: scratch, mountPath: /var/lib/scratch}
          - {name: tmp, mountPath: /tmp}
          {{- include "common.s3TokenMount" . | nindent 10 }}
          {{- include "common.caMount" . | nindent 10 }}
          {{- if .Values.features }}
          - {name: features, mountPath: /etc/trainer, readOnly: true}
          {{- end }}
          {{- if include "training.decisionsSecret" . }}
          - {name: decisions, mountPath: /etc/creditrisk/decisions, readOnly: true}
          {{- end }}
    volumes:
      - {name: scratch, emptyDir: {sizeLimit: {{ include "training.scratchSize" . }}}}
      - {name: tmp, emptyDir: {}}
      {{- include "common.s3TokenVolume" . | nindent 6 }}
      {{- include "common.caVolume" . | nindent 6 }}
      - name: checkpoints
        {{- if $indexed }}
        # Pods on several nodes cannot share the volume. A search resumes from its study instead, and pods that train
        # together from the newest checkpoint of those that were not lost.
        emptyDir: {}
        {{- else }}
        persistentVolumeClaim: {claimName: training-checkpoints}
        {{- end }}
      {{- if .Values.features }}
      - name: features
        configMap: {name: training-features}
      {{- end }}
      {{- with include "training.decisionsSecret" . }}
      - name: decisions
        secret: {secretName: {{ . }}}
      {{- end }}
{{- end }}
