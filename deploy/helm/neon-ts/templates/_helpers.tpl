{{- define "neon-ts.labels" -}}
app.kubernetes.io/name: neon-ts
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end }}

{{- define "neon-ts.selector" -}}
app.kubernetes.io/name: neon-ts
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "neon-ts.name" -}}
{{ printf "%s-%s" .root.Release.Name .component | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* What every container of ours may do: nothing. */}}
{{- define "neon-ts.securityContext" -}}
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
{{- end }}

{{- define "neon-ts.s3Secret" -}}
{{- .Values.objectStore.existingSecret | default (printf "%s-object-store" .Release.Name) }}
{{- end }}

{{- define "neon-ts.commonEnv" -}}
- name: AWS_REGION
  value: {{ .Values.objectStore.region | quote }}
{{- with .Values.otlpEndpoint }}
- name: OTEL_EXPORTER_OTLP_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- end }}

{{- define "neon-ts.safekeeperAddrs" -}}
{{- $name := include "neon-ts.name" (dict "root" . "component" "safekeeper") -}}
{{- $addrs := list -}}
{{- range $at := until (int .Values.safekeeper.replicas) -}}
{{- $addrs = append $addrs (printf "%s-%d.%s:5454" $name $at $name) -}}
{{- end -}}
{{- join "," $addrs -}}
{{- end }}

{{/* An HTTP probe on the named port. */}}
{{- define "neon-ts.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: { path: /readyz, port: http }
  periodSeconds: 5
livenessProbe:
  httpGet: { path: /healthz, port: http }
  periodSeconds: 10
  failureThreshold: 6
{{- end }}
