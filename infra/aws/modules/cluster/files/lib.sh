#!/usr/bin/env bash
# What the server and the agents do alike. Sourced by server.sh, agent.sh and drain.sh.
set -euo pipefail
umask 077
# shellcheck source=/dev/null
source /etc/creditrisk/node.env
export AWS_REGION AWS_DEFAULT_REGION="$AWS_REGION"

ECR_PROVIDER_VERSION=v1.37.0
DATA=/var/lib/rancher

say() {
    printf 'credit-risk: %s\n' "$*"
}

die() {
    printf 'credit-risk: FAILED: %s\n' "$*" >&2
    exit 1
}

# retry SECONDS WHAT COMMAND...: until the command succeeds; its last words are told when it never does.
retry() {
    local deadline=$((SECONDS + $1)) what=$2 words
    shift 2
    until words=$("$@" 2>&1); do
        [ "$SECONDS" -lt "$deadline" ] || die "$what: ${words:-no answer from: $*}"
        sleep "${RETRY_SECONDS:-5}"
    done
}

# fetch URL FILE SUMS_URL: download, and keep the file only if the sums list its hash (for its own name, or alone).
fetch() {
    local url=$1 file=$2 sums_url=$3 name expected actual
    name=$(basename "$url")
    for part in "$url $file.part" "$sums_url $file.sums"; do
        curl --fail --silent --show-error --location --retry 5 --retry-all-errors --connect-timeout 10 \
            --output "${part#* }" "${part%% *}" || die "cannot download ${part%% *}"
    done
    expected=$(awk -v name="$name" '$2 == name || NF == 1 { print $1; exit }' "$file.sums")
    actual=$(sha256sum "$file.part" | cut -d ' ' -f 1)
    [ "$expected" = "$actual" ] || die "$url has the SHA-256 $actual, and $sums_url says ${expected:-nothing}"
    rm "$file.sums"
    chmod 0755 "$file.part"
    mv "$file.part" "$file"
}

install_k3s() {
    local base="https://github.com/k3s-io/k3s/releases/download/${K3S_VERSION/+/%2B}"
    say "install k3s $K3S_VERSION"
    fetch "$base/k3s" /usr/local/bin/k3s "$base/sha256sum-amd64.txt"
}

# The kubelet asks this one for ECR's passwords when it pulls: none is stored, none runs out.
install_credential_provider() {
    local folder="$DATA/credentialprovider"
    local url="https://artifacts.k8s.io/binaries/cloud-provider-aws/$ECR_PROVIDER_VERSION/linux/amd64/ecr-credential-provider-linux-amd64"
    say "install the ECR credential provider $ECR_PROVIDER_VERSION"
    mkdir -p "$folder/bin"
    fetch "$url" "$folder/bin/ecr-credential-provider" "$url.sha256"
    cat >"$folder/config.yaml" <<'YAML'
apiVersion: kubelet.config.k8s.io/v1
kind: CredentialProviderConfig
providers:
  - name: ecr-credential-provider
    apiVersion: credentialprovider.kubelet.k8s.io/v1
    matchImages: ["*.dkr.ecr.*.amazonaws.com", "*.dkr.ecr.*.amazonaws.com.cn"]
    defaultCacheDuration: 6h
YAML
}

# start_k3s ROLE: server or agent, now and at every boot.
start_k3s() {
    cat >/etc/systemd/system/k3s.service <<UNIT
[Unit]
Description=k3s $1
After=network-online.target
Wants=network-online.target
RequiresMountsFor=$DATA
[Service]
Type=notify
KillMode=process
Delegate=yes
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStartPre=-/sbin/modprobe br_netfilter
ExecStartPre=-/sbin/modprobe overlay
ExecStart=/usr/local/bin/k3s $1
[Install]
WantedBy=multi-user.target
UNIT
    systemctl daemon-reload
    systemctl enable k3s
    systemctl start --no-block k3s
}

# metadata PATH: what the machine is told about itself.
metadata() {
    local address=http://169.254.169.254/latest token
    token=$(curl --fail --silent --show-error --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" \
        "$address/api/token") || die "the instance metadata service does not answer"
    curl --fail --silent --show-error --header "X-aws-ec2-metadata-token: $token" "$address/meta-data/$1" ||
        die "the instance metadata service does not say its $1"
}

parameter() {
    aws ssm get-parameter --with-decryption --name "$1" --query Parameter.Value --output text
}
