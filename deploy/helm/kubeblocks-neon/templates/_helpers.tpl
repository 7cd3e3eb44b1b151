{{- define "neon.labels" -}}
app.kubernetes.io/name: neon
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "neon.meta" -}}
labels: {{- include "neon.labels" .root | nindent 2 }}
annotations:
  kubeblocks.io/crd-api-version: apps.kubeblocks.io/v1
{{- end }}

{{/* Name of a component definition, and the pattern that clusters find it by. */}}
{{- define "neon.compDef" -}}
{{ .component }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "neon.scripts" -}}
- name: neon-scripts
  template: neon-scripts
  namespace: {{ .Release.Namespace }}
  volumeName: scripts
  defaultMode: 0555
{{- end }}

{{/* The broker's address, from its pod's name: there is one. */}}
{{- define "neon.brokerVars" -}}
- name: NEON_STORAGEBROKER_POD_FQDN_LIST
  valueFrom:
    componentVarRef: { compDef: ^neon-broker-, podFQDNs: Required }
- name: NEON_STORAGEBROKER_PORT
  valueFrom:
    serviceVarRef: { compDef: ^neon-broker-, name: neon-storagebroker, port: { name: storagebroker } }
{{- end }}
