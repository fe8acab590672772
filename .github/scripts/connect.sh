#!/usr/bin/env bash
# Connect to the cluster: start a Session Manager port-forward, leave it running, and write a kubeconfig that logs in
# with this GitHub job's own token. Reads K3S_SERVER_ID, K3S_CA_URL, and K3S_AUDIENCE. Argument: the folder to write to.
set -euo pipefail
folder=${1:?the folder for the kubeconfig}
port=${LOCAL_PORT:-6443}
scripts=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$folder"
curl --fail --silent --show-error --retry 5 --output "$folder/ca.crt" "$K3S_CA_URL" ||
    { echo "cannot download the cluster's CA from $K3S_CA_URL: has the server started?" >&2; exit 1; }
aws ssm start-session --target "$K3S_SERVER_ID" --document-name AWS-StartPortForwardingSession \
    --parameters "portNumber=6443,localPortNumber=$port" >"$folder/session.log" 2>&1 &
session=$!
for _ in $(seq 60); do
    if curl --silent --cacert "$folder/ca.crt" --output /dev/null "https://127.0.0.1:$port/livez"; then
        break
    fi
    kill -0 "$session" 2>/dev/null || { echo "the session ended:" >&2; cat "$folder/session.log" >&2; exit 1; }
    sleep 1
done
curl --silent --show-error --cacert "$folder/ca.crt" --output /dev/null "https://127.0.0.1:$port/livez" ||
    { echo "Kubernetes does not answer through the session:" >&2; cat "$folder/session.log" >&2; exit 1; }
cat >"$folder/kubeconfig" <<YAML
apiVersion: v1
kind: Config
current-context: k3s
clusters:
  - name: k3s
    cluster: {server: "https://127.0.0.1:$port", certificate-authority: "$folder/ca.crt"}
users:
  - name: github
    user:
      exec:
        apiVersion: client.authentication.k8s.io/v1
        command: "$scripts/github_token.py"
        args: ["$K3S_AUDIENCE"]
        interactiveMode: Never
contexts:
  - name: k3s
    context: {cluster: k3s, user: github}
YAML
chmod 600 "$folder/kubeconfig"
echo "connected: the Kubernetes API is at 127.0.0.1:$port"
