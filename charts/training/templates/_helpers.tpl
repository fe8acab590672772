{{/* The trainer's arguments, one list item a line. */}}
{{- define "training.arguments" -}}
- --data={{ .Values.data }}
- --promote={{ .Values.promote }}
{{- if .Values.excludeProtected }}
- --exclude-protected
{{- end }}
{{- if .Values.features }}
- --features=/etc/trainer/features.json
{{- end }}
{{- range $values := list .Values.hyperparameters .Values.gates }}
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
{{- end }}
{{- range .Values.args }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{/* Where a hyper-parameter search keeps its study. User and password reach the driver by libpq's own variables. */}}
{{- define "training.studyEnvironment" -}}
- name: TRAINER_STUDY_STORAGE
  value: postgresql+psycopg2://{{ .Values.global.database.host }}:{{ .Values.global.database.port }}/
{{- range $variable, $key := dict "PGUSER" "username" "PGPASSWORD" "password" "PGDATABASE" "database" }}
- name: {{ $variable }}
  valueFrom:
    secretKeyRef: {name: {{ $.Values.global.database.secret }}, key: {{ $key }}}
{{- end }}
{{- end }}

{{/* The spec of a Job. */}}
{{- define "training.job" -}}
{{- $search := gt (int .Values.search.trials) 0 -}}
{{- $indexed := and $search (semverCompare ">=1.22.0-0" .Capabilities.KubeVersion.Version) -}}
backoffLimit: {{ .Values.backoffLimit }}
activeDeadlineSeconds: {{ .Values.activeDeadlineSeconds }}
{{- if $indexed }}
completionMode: Indexed
completions: {{ .Values.search.workers }}
parallelism: {{ .Values.search.workers }}
{{- end }}
{{- if semverCompare ">=1.26.0-0" .Capabilities.KubeVersion.Version }}
# Bad data and a refused model do not get better by another try.
podFailurePolicy:
  rules:
    - action: FailJob
      onExitCodes: {containerName: training, operator: In, values: [2, 3]}
{{- end }}
template:
  metadata:
    labels: {{- include "common.labels" . | nindent 6 }}
  spec:
    {{- if include "common.s3Role" . }}
    serviceAccountName: {{ .Chart.Name }}
    {{- end }}
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    securityContext: {{- include "common.podSecurityContext" 10001 | nindent 6 }}
    containers:
      - name: training
        image: {{ include "common.image" .Values.image }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        args: {{- include "training.arguments" . | nindent 10 }}
        securityContext: {{- include "common.containerSecurityContext" . | nindent 10 }}
        env:
          - {name: MLFLOW_TRACKING_URI, value: {{ .Values.mlflowUrl | quote }}}
          - {name: TRAINER_WORK_DIR, value: /var/lib/trainer}
          # Another attempt of the same Job does not train a refused model again.
          - name: TRAINER_JOB
            valueFrom:
              fieldRef: {fieldPath: "metadata.labels['job-name']"}
          {{- include "training.studyEnvironment" . | nindent 10 }}
          {{- include "common.s3Environment" . | nindent 10 }}
        resources: {{- toYaml .Values.resources | nindent 10 }}
        volumeMounts:
          - {name: checkpoints, mountPath: /var/lib/trainer}
          - {name: tmp, mountPath: /tmp}
          {{- include "common.s3TokenMount" . | nindent 10 }}
          {{- if .Values.features }}
          - {name: features, mountPath: /etc/trainer, readOnly: true}
          {{- end }}
    volumes:
      - {name: tmp, emptyDir: {}}
      {{- include "common.s3TokenVolume" . | nindent 6 }}
      - name: checkpoints
        {{- if $indexed }}
        # Pods on several nodes cannot share the volume, and a search goes on from its study.
        emptyDir: {}
        {{- else }}
        persistentVolumeClaim: {claimName: training-checkpoints}
        {{- end }}
      {{- if .Values.features }}
      - name: features
        configMap: {name: training-features}
      {{- end }}
{{- end }}
