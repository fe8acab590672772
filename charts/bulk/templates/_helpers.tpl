{{/* The arguments of bulk scoring, as a YAML list. */}}
{{- define "bulk.arguments" -}}
{{- $card := .Values.scorecard -}}
- score
- {{ required "input is required: s3://BUCKET/PREFIX" .Values.input | quote }}
- {{ required "output is required: s3://BUCKET/PREFIX" .Values.output | quote }}
- --name={{ .Values.model.name }}
- --version={{ required "model.version is required: the number of a registered version" .Values.model.version }}
- --registry={{ .Values.mlflowUrl }}
- --reasons={{ .Values.reasons }}
{{- with .Values.where }}
- {{ printf "--where=%s" . | quote }}
{{- end }}
{{- with .Values.keep }}
- {{ printf "--keep=%s" (join "," .) | quote }}
{{- end }}
- --shard-rows={{ .Values.shardRows | int64 }}
- --scorecard={{ $card.basePoints }},{{ $card.baseOdds }},{{ $card.pointsToDouble }}
- --worker=$(POD_NAME)
- --lease={{ .Values.leaseSeconds }}
- --metrics-port=9093
{{- end }}

{{/* The environment of bulk scoring. */}}
{{- define "bulk.env" -}}
- name: POD_NAME
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
# One core scores; pods are how the work is shared.
- {name: OMP_NUM_THREADS, value: "1"}
{{- include "common.s3Environment" . }}
{{- include "common.caEnvironment" (list . "SSL_CERT_FILE" "SSL_CERT_DIR" "AWS_CA_BUNDLE") }}
{{- end }}

{{/* The spec of the Job. */}}
{{- define "bulk.job" -}}
# Every pod ends once all shards are done, by whichever pod.
completions: {{ .Values.pods }}
parallelism: {{ .Values.pods }}
{{- if semverCompare ">=1.22.0-0" .Capabilities.KubeVersion.Version }}
# Which pod scores which shard does not depend on the index: pods claim shards, as on clusters without Indexed Jobs.
completionMode: Indexed
{{- end }}
backoffLimit: {{ .Values.backoffLimit }}
activeDeadlineSeconds: {{ .Values.activeDeadlineSeconds | int64 }}
{{- if semverCompare ">=1.26.0-0" .Capabilities.KubeVersion.Version }}
podFailurePolicy:
  rules:
    # Wrong usage, or files that cannot be scored as they are: another pod would end in the same way.
    - action: FailJob
      onExitCodes: {containerName: bulk, operator: In, values: [2, 3]}
    # Drained nodes and evicted pods.
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
{{- end }}
template:
  metadata:
    labels: {{- include "common.podLabels" . | nindent 6 }}
    {{- include "common.podAnnotations" (list . (include "common.scrapeAnnotations" (list . "9093") | fromJson)) | nindent 4 }}
  spec:
    {{- if include "common.s3Role" . }}
    serviceAccountName: {{ .Chart.Name }}
    {{- end }}
    restartPolicy: Never
    automountServiceAccountToken: false
    enableServiceLinks: false
    securityContext: {{- include "common.podSecurityContext" 10001 | nindent 6 }}
    {{- include "common.podSettings" (dict "root" .) | nindent 4 }}
    containers:
      - name: bulk
        image: {{ include "common.image" .Values.image }}
        imagePullPolicy: {{ .Values.image.pullPolicy }}
        command: [python, -m, creditrisk_scoring]
        args: {{- include "bulk.arguments" . | nindent 10 }}
        securityContext: {{- include "common.containerSecurityContext" . | nindent 10 }}
        {{- include "common.env" (list . (include "bulk.env" .)) | nindent 8 }}
        ports:
          - {name: metrics, containerPort: 9093, protocol: TCP}
        resources: {{- include "common.resources" .Values.resources | nindent 10 }}
        volumeMounts:
          - {name: tmp, mountPath: /tmp}
          {{- include "common.s3TokenMount" . | nindent 10 }}
          {{- include "common.caMount" . | nindent 10 }}
    volumes:
      # Gets the model.
      - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
      {{- include "common.s3TokenVolume" . | nindent 6 }}
      {{- include "common.caVolume" . | nindent 6 }}
{{- end }}
