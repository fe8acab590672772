{{/*
The URL of the S3 server; empty for AWS. The Service `s3` is named with its namespace, because MLflow gives its clients
URLs that it signed, and a client may be in another namespace, which has a Service of the same name or none.
*/}}
{{- define "common.s3Endpoint" -}}
{{- with .Values.global.s3.endpoint }}
{{- eq . "http://s3:9000" | ternary (printf "http://s3.%s.svc:9000" $.Release.Namespace) . }}
{{- end }}
{{- end }}

{{/*
Environment of an S3 client, from global.s3. With neither a role nor a Secret, the AWS SDK uses its default credential
chain.
*/}}
{{- define "common.s3Environment" -}}
{{- with include "common.s3Endpoint" . }}
- name: AWS_ENDPOINT_URL
  value: {{ . | quote }}
- name: MLFLOW_S3_ENDPOINT_URL
  value: {{ . | quote }}
{{- end }}
{{- with .Values.global.s3 }}
- name: AWS_DEFAULT_REGION
  value: {{ .region | quote }}
# Not every S3 server supports the checksums that recent AWS SDKs send by default.
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
The AWS role of this chart's pods, from global.s3.roleArns; empty if there is none. The pods assume it with a token of
their ServiceAccount, which has the chart's name: docs/adr/0005.
*/}}
{{- define "common.s3Role" -}}
{{- index (.Values.global.s3.roleArns | default dict) .Chart.Name | default "" }}
{{- end }}

{{/* The ServiceAccount that AWS trusts with the role; nothing if there is no role. */}}
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

{{/* The mount of the ServiceAccount token for AWS; nothing if there is no role. */}}
{{- define "common.s3TokenMount" -}}
{{- if include "common.s3Role" . }}
- {name: aws-token, mountPath: /var/run/secrets/aws, readOnly: true}
{{- end }}
{{- end }}

{{/* The volume with the ServiceAccount token. The kubelet rotates it; its audience is AWS only. */}}
{{- define "common.s3TokenVolume" -}}
{{- if include "common.s3Role" . }}
- name: aws-token
  projected:
    sources:
      - serviceAccountToken: {audience: sts.amazonaws.com, expirationSeconds: 3600, path: token}
{{- end }}
{{- end }}

{{/*
The credentials of the S3 server in the cluster. Generated once and kept on upgrades; kept on uninstall too, because
the volume that needs them also stays.
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
