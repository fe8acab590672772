{{/* Labels that select a chart's pods; they never change over an upgrade. */}}
{{- define "common.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "common.labels" -}}
{{ include "common.selector" . }}
app.kubernetes.io/part-of: credit-risk
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* repository:tag, or repository@digest where a digest is given. Call it with an image value. */}}
{{- define "common.image" -}}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ required "image.tag or image.digest is needed" .tag }}{{ end }}
{{- end }}

{{/* A pod's security context. Call it with the user's number. */}}
{{- define "common.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: {{ . }}
runAsGroup: {{ . }}
fsGroup: {{ . }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "common.containerSecurityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Environment of a client of the object store, from global.s3. No secret named: the default credential chain. */}}
{{- define "common.s3Environment" -}}
{{- with .Values.global.s3 }}
{{- if .endpoint }}
- name: AWS_ENDPOINT_URL
  value: {{ .endpoint | quote }}
- name: MLFLOW_S3_ENDPOINT_URL
  value: {{ .endpoint | quote }}
{{- end }}
- name: AWS_DEFAULT_REGION
  value: {{ .region | quote }}
# Not every S3 server knows the checksums that new clients send by default.
- name: AWS_REQUEST_CHECKSUM_CALCULATION
  value: when_required
- name: AWS_RESPONSE_CHECKSUM_VALIDATION
  value: when_required
{{- $role := include "common.s3Role" $ }}
{{- if $role }}
- name: AWS_ROLE_ARN
  value: {{ $role | quote }}
- name: AWS_WEB_IDENTITY_TOKEN_FILE
  value: /var/run/secrets/aws/token
{{- else if .secret }}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: access-key-id}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .secret }}, key: secret-access-key}
{{- end }}
{{- end }}
{{- end }}

{{/*
The AWS role of this chart's pods, from global.s3.roleArns; empty for none. AWS gives it for a token of the pods' service
account, which has the chart's name: docs/adr/0005.
*/}}
{{- define "common.s3Role" -}}
{{- index (.Values.global.s3.roleArns | default dict) .Chart.Name | default "" }}
{{- end }}

{{/* The service account that the role is given to. */}}
{{- define "common.s3ServiceAccount" -}}
{{- if include "common.s3Role" . }}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .Chart.Name }}
  labels: {{- include "common.labels" . | nindent 4 }}
automountServiceAccountToken: false
{{- end }}
{{- end }}

{{- define "common.s3TokenMount" -}}
{{- if include "common.s3Role" . }}
- {name: aws-token, mountPath: /var/run/secrets/aws, readOnly: true}
{{- end }}
{{- end }}

{{/* The kubelet keeps the token fresh; AWS is the only one that takes it. */}}
{{- define "common.s3TokenVolume" -}}
{{- if include "common.s3Role" . }}
- name: aws-token
  projected:
    sources:
      - serviceAccountToken: {audience: sts.amazonaws.com, expirationSeconds: 3600, path: token}
{{- end }}
{{- end }}

{{/*
The credentials of the object store that runs in the cluster: made once, found again at every upgrade, and kept when
the release goes, because the volume that they open stays too.
*/}}
{{- define "common.s3Secret" -}}
{{- if eq .Values.global.s3.secret "s3-credentials" }}
{{- $old := (lookup "v1" "Secret" .Release.Namespace "s3-credentials").data | default dict }}
apiVersion: v1
kind: Secret
metadata:
  name: s3-credentials
  labels: {{- include "common.labels" . | nindent 4 }}
  annotations:
    helm.sh/resource-policy: keep
type: Opaque
data:
  access-key-id: {{ index $old "access-key-id" | default (randAlphaNum 20 | b64enc) }}
  secret-access-key: {{ index $old "secret-access-key" | default (randAlphaNum 40 | b64enc) }}
{{- end }}
{{- end }}

{{/* A NetworkPolicy's peer: the pods of one of this release's charts. Call it with (list $ "chart"). */}}
{{- define "common.peer" -}}
{{- $root := index . 0 -}}
podSelector:
  matchLabels:
    app.kubernetes.io/name: {{ index . 1 }}
    app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- end }}
