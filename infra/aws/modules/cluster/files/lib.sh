#!/usr/bin/env bash
# Functions shared by server.sh, agent.sh, and drain.sh.
set -euo pipefail
umask 077
# shellcheck source=/dev/null
source /etc/creditrisk/node.env
export AWS_REGION AWS_DEFAULT_REGION="$AWS_REGION"

ECR_PROVIDER_VERSION=v1.37.0
DATA=/var/lib/rancher

log() {
    printf 'credit-risk: %s\n' "$*"
}

die() {
    printf 'credit-risk: FAILED: %s\n' "$*" >&2
    exit 1
}

# retry SECONDS PROBLEM COMMAND...: repeat until the command succeeds, or fail with PROBLEM and its last output.
retry() {
    local deadline=$((SECONDS + $1)) problem=$2 output
    shift 2
    until output=$("$@" 2>&1); do
        [ "$SECONDS" -lt "$deadline" ] || die "$problem: ${output:-no output from: $*}"
        sleep "${RETRY_SECONDS:-5}"
    done
}

# fetch URL FILE SUMS_URL: download, and keep the file only if the sums contain its hash (under its name, or alone).
fetch() {
    local url=$1 file=$2 sums_url=$3 name expected actual
    name=$(basename "$url")
    for part in "$url $file.part" "$sums_url $file.sums"; do
        curl --fail --silent --show-error --location --retry 5 --retry-all-errors --connect-timeout 10 \
            --output "${part#* }" "${part%% *}" || die "cannot download ${part%% *}"
    done
    expected=$(awk -v name="$name" '$2 == name || NF == 1 { print $1; exit }' "$file.sums")
    actual=$(sha256sum "$file.part" | cut -d ' ' -f 1)
    [ "$expected" = "$actual" ] || die "$url has the SHA-256 $actual, but $sums_url lists ${expected:-none}"
    rm "$file.sums"
    chmod 0755 "$file.part"
    mv "$file.part" "$file"
}

install_k3s() {
    local base="https://github.com/k3s-io/k3s/releases/download/${K3S_VERSION/+/%2B}"
    log "installing k3s $K3S_VERSION"
    fetch "$base/k3s" /usr/local/bin/k3s "$base/sha256sum-amd64.txt"
}

# The kubelet gets ECR credentials from this provider for each pull, so that none is stored and none expires.
install_credential_provider() {
    local folder="$DATA/credentialprovider"
    local url="https://artifacts.k8s.io/binaries/cloud-provider-aws/$ECR_PROVIDER_VERSION/linux/amd64/ecr-credential-provider-linux-amd64"
    log "installing the ECR credential provider $ECR_PROVIDER_VERSION"
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

# start_k3s ROLE: start k3s as server or agent, now and at every boot.
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

# metadata PATH: print a value of the instance metadata.
metadata() {
    local address=http://169.254.169.254/latest token
    token=$(curl --fail --silent --show-error --request PUT --header "X-aws-ec2-metadata-token-ttl-seconds: 60" \
        "$address/api/token") || die "the instance metadata service does not answer"
    curl --fail --silent --show-error --header "X-aws-ec2-metadata-token: $token" "$address/meta-data/$1" ||
        die "the instance metadata service has no $1"
}

parameter() {
    aws ssm get-parameter --with-decryption --name "$1" --query Parameter.Value --output text
}
