{{/* The environment of the server. */}}
{{- define "seaweedfs.env" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom:
    secretKeyRef: {name: {{ .Values.global.s3.secret }}, key: access-key-id}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom:
    secretKeyRef: {name: {{ .Values.global.s3.secret }}, key: secret-access-key}
{{- end }}
