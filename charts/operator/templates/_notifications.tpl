{{/*
The values of notifications, all of them: releases before 0.2 had none, and `helm upgrade --reuse-values` then has only
those that are given.
*/}}
{{- define "operator.notificationValues" -}}
{{- $given := .Values.notifications | default dict }}
{{- $slack := dict "existingSecret" "" "urlKey" "url" "events" list }}
{{- $events := dict "url" "" "urlKey" "" "tokenKey" "" "existingSecret" "" "mode" "structured" "events" list }}
{{- $email := dict "host" "" "port" 587 "security" "starttls" "from" "" "to" list "existingSecret" "" "events" list }}
{{- $_ := merge $email (dict "usernameKey" "username" "passwordKey" "password") }}
{{- $links := dict "page" "" "mlflow" "" }}
{{- $all := list "RolloutStarted" "Promoted" "RolledBack" "Stopped" "Completed" "WaitingForPerson" "Degraded" "Recovered" }}
{{- $defaults := dict "events" $all "cluster" "" "links" $links "slack" $slack "cloudEvents" $events "email" $email }}
{{- toJson (merge (deepCopy $given) $defaults) }}
{{- end }}

{{/* The receivers as the operator reads them (PROMOTER_NOTIFICATIONS), as JSON; empty without any. */}}
{{- define "operator.notifications" -}}
{{- $found := dict }}
{{- $folder := "/etc/creditrisk/notifications" }}
{{- with include "operator.notificationValues" . | fromJson }}
{{- if .slack.existingSecret }}
{{- $_ := set $found "slack" (dict "urlFile" (printf "%s/slack/url" $folder) "events" .slack.events) }}
{{- end }}
{{- if or .cloudEvents.url .cloudEvents.urlKey }}
{{- $receiver := dict "mode" .cloudEvents.mode "events" .cloudEvents.events }}
{{- if and .cloudEvents.url .cloudEvents.urlKey }}
{{- fail "notifications.cloudEvents: set url or urlKey, not both" }}
{{- end }}
{{- if and (or .cloudEvents.urlKey .cloudEvents.tokenKey) (not .cloudEvents.existingSecret) }}
{{- fail "notifications.cloudEvents: urlKey and tokenKey are keys of existingSecret, which is not set" }}
{{- end }}
{{- if .cloudEvents.urlKey }}
{{- $_ := set $receiver "urlFile" (printf "%s/cloud-events/url" $folder) }}
{{- else }}
{{- $_ := set $receiver "url" .cloudEvents.url }}
{{- end }}
{{- if .cloudEvents.tokenKey }}
{{- $_ := set $receiver "tokenFile" (printf "%s/cloud-events/token" $folder) }}
{{- end }}
{{- $_ := set $found "cloudEvents" $receiver }}
{{- end }}
{{- with .email }}
{{- if .host }}
{{- if not (and .from .to) }}
{{- fail "notifications.email: host is set, so from and to are needed" }}
{{- end }}
{{- $receiver := dict "host" .host "port" .port "security" .security "from" .from "to" .to "events" .events }}
{{- if .existingSecret }}
{{- if eq .security "none" }}
{{- fail "notifications.email: security is none, and a password is not sent without TLS" }}
{{- end }}
{{- $_ := set $receiver "usernameFile" (printf "%s/email/username" $folder) }}
{{- $_ := set $receiver "passwordFile" (printf "%s/email/password" $folder) }}
{{- end }}
{{- $_ := set $found "email" $receiver }}
{{- end }}
{{- end }}
{{- if $found }}
{{- toJson (merge $found (dict "events" .events "cluster" .cluster "links" .links)) }}
{{- end }}
{{- end }}
{{- end }}

{{/*
The keys of Secrets that receivers need, as {"sources": [...]} of a projected volume. Optional: a notification waits for
a Secret that is missing, and rollouts do not.
*/}}
{{- define "operator.notificationSecrets" -}}
{{- $sources := list }}
{{- with include "operator.notificationValues" . | fromJson }}
{{- $wanted := list (list .slack.existingSecret .slack.urlKey "slack/url") }}
{{- if or .cloudEvents.url .cloudEvents.urlKey }}
{{- $wanted = append $wanted (list .cloudEvents.existingSecret .cloudEvents.urlKey "cloud-events/url") }}
{{- $wanted = append $wanted (list .cloudEvents.existingSecret .cloudEvents.tokenKey "cloud-events/token") }}
{{- end }}
{{- if .email.host }}
{{- $wanted = append $wanted (list .email.existingSecret .email.usernameKey "email/username") }}
{{- $wanted = append $wanted (list .email.existingSecret .email.passwordKey "email/password") }}
{{- end }}
{{- range $wanted }}
{{- if and (index . 0) (index . 1) }}
{{- $items := list (dict "key" (index . 1) "path" (index . 2)) }}
{{- $sources = append $sources (dict "secret" (dict "name" (index . 0) "optional" true "items" $items)) }}
{{- end }}
{{- end }}
{{- end }}
{{- if $sources }}
{{- toJson (dict "sources" $sources) }}
{{- end }}
{{- end }}
