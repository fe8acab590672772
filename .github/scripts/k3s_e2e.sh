#!/usr/bin/env bash
# Install the stack on a real k3s on this machine, with the manifests and values used on AWS but with an in-cluster S3
# server and locally built images. Then run CI's own deploy, through to a scored loan. Needs Docker, helm, and sudo.
set -euo pipefail
cd "$(dirname "$0")/../.."
version=$(sed -n 's/.*default *= "\(v1\.[0-9.]*+k3s[0-9]*\)".*/\1/p' infra/aws/variables.tf)
base="https://github.com/k3s-io/k3s/releases/download/${version/+/%2B}"
work=$(mktemp -d)

echo "-> k3s $version"
(cd "$work" && curl --fail --silent --show-error --location --remote-name "$base/k3s" \
    --remote-name "$base/sha256sum-amd64.txt" && sha256sum --check --ignore-missing --quiet sha256sum-amd64.txt)
sudo install -m 755 "$work/k3s" /usr/local/bin/k3s
sudo mkdir -p /var/lib/rancher/k3s/server/manifests
sudo cp manifests/k3s-*.yaml /var/lib/rancher/k3s/server/manifests/
sudo sh -c "k3s server --disable=servicelb --write-kubeconfig-mode=644 --node-label=creditrisk.io/disk=kept \
    >$work/k3s.log 2>&1 &"
export KUBECONFIG=/etc/rancher/k3s/k3s.yaml
timeout 180 sh -c 'until kubectl get --raw /readyz >/dev/null 2>&1; do sleep 2; done' || { tail -50 "$work/k3s.log"; exit 1; }
timeout 120 sh -c 'until kubectl get namespace credit-risk >/dev/null 2>&1; do sleep 2; done'

echo "-> images"
for image in api training mlflow operator decisions; do
    docker build --quiet --file "images/$image/Dockerfile" --tag "localhost/credit-risk/$image:ci" \
        --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu .
    docker save "localhost/credit-risk/$image:ci" | sudo k3s ctr images import -
done
python3 -c 'import json; print(json.dumps({name: {"repository": f"localhost/credit-risk/{name}", "tag": "ci"}
    for name in ("api", "training", "mlflow", "operator", "decisions")}))' >"$work/images.json"

echo "-> the stack"
cat >"$work/values.yaml" <<'YAML'
global: {s3: {endpoint: "http://s3:9000", secret: s3-credentials}}
seaweedfs: {enabled: true, storage: {storageClass: server-disk}}
YAML
charts/build.sh
.github/scripts/deploy.py --images "$work/images.json" --values charts/credit-risk/values-k3s.yaml \
    --values "$work/values.yaml"
kubectl --namespace kube-system rollout status daemonset/traefik --timeout=180s
curl --fail --silent --show-error --insecure https://127.0.0.1:30443/openapi.json >/dev/null
