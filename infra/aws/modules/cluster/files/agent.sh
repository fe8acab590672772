#!/usr/bin/env bash
# Make this machine an agent of the cluster. Run once, by cloud-init.
# shellcheck source=SCRIPTDIR/lib.sh
source /opt/creditrisk/lib.sh

# The server writes it when it has started: until then the parameter says "pending".
join_token_is_there() {
    local value
    value=$(parameter "$JOIN_TOKEN_PARAMETER") && [[ $value == K10* ]] || {
        echo "$JOIN_TOKEN_PARAMETER is ${value:-not readable}: the server has not started"
        return 1
    }
}

node=$(metadata instance-id)
zone=$(metadata placement/availability-zone)
install_k3s
install_credential_provider
say "wait for the server"
retry 1800 "the join token" join_token_is_there
mkdir -p /etc/rancher/k3s
parameter "$JOIN_TOKEN_PARAMETER" >/etc/rancher/k3s/token
cat >/etc/rancher/k3s/config.yaml <<YAML
server: https://$SERVER_ADDRESS:6443
token-file: /etc/rancher/k3s/token
node-name: $node
node-label: [topology.kubernetes.io/zone=$zone]
YAML
start_k3s agent
retry 600 "k3s (journalctl -u k3s says more)" systemctl is-active --quiet k3s
say "joined as $node"
