{{/* The environment of the server. */}}
{{- define "minio.env" -}}
- name: MINIO_ROOT_USER
  valueFrom:
    secretKeyRef: {name: {{ .Values.global.s3.secret }}, key: access-key-id}
- name: MINIO_ROOT_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.global.s3.secret }}, key: secret-access-key}
- {name: MINIO_BROWSER, value: "off"}
{{- end }}
