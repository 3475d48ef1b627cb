{{/* The Service's and everything else's name. Fixed: pods of jobs post their progress to this name. */}}
{{- define "penstock.name" -}}
penstock-operator
{{- end }}

{{- define "penstock.serviceAccountName" -}}
{{ .Values.serviceAccount.name | default (include "penstock.name" .) }}
{{- end }}

{{/* Labels that never change: a Deployment's selector is immutable. */}}
{{- define "penstock.selector" -}}
app.kubernetes.io/name: penstock
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "penstock.labels" -}}
{{ include "penstock.selector" . }}
app.kubernetes.io/part-of: penstock
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What the operator does in the namespaces it serves, and nothing else. */}}
{{- define "penstock.rules" -}}
- apiGroups: [penstock.dev]
  resources: [trainingjobs]
  verbs: [list, watch, delete]
# Patch: the finalizer that holds a volume until what it paid for is gone.
- apiGroups: [penstock.dev]
  resources: [lustrevolumes]
  verbs: [list, watch, patch]
- apiGroups: [penstock.dev]
  resources: [trainingjobs/status, lustrevolumes/status]
  verbs: [patch]
# Children say blockOwnerDeletion; admission asks for this right where OwnerReferencesPermissionEnforcement is on.
- apiGroups: [penstock.dev]
  resources: [trainingjobs/finalizers, lustrevolumes/finalizers]
  verbs: [update]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [get, create, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [get, list, watch, create, delete]
# Never get or list: the keys of a job are derived, not read back.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
{{- if .Values.config.networkPolicy }}
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, create]
{{- end }}
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, list]
{{- end }}

{{/* Rights of people over TrainingJobs. */}}
{{- define "penstock.viewRules" -}}
- apiGroups: [penstock.dev]
  resources: [trainingjobs, trainingjobs/status, lustrevolumes, lustrevolumes/status]
  verbs: [get, list, watch]
{{- end }}

{{- define "penstock.editRules" -}}
{{ include "penstock.viewRules" . }}
- apiGroups: [penstock.dev]
  resources: [trainingjobs, lustrevolumes]
  verbs: [create, update, patch, delete, deletecollection]
- apiGroups: [penstock.dev]
  resources: [trainingjobs/scale]
  verbs: [get, update, patch]
{{- end }}
