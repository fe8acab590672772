#!/usr/bin/env bash
# Make this instance an agent of the cluster. Run once, by cloud-init.
# shellcheck source=SCRIPTDIR/lib.sh
source /opt/creditrisk/lib.sh

# The server writes the token once it is running; until then the parameter is "pending".
join_token_is_there() {
    local value
    value=$(parameter "$JOIN_TOKEN_PARAMETER") && [[ $value == K10* ]] || {
        echo "$JOIN_TOKEN_PARAMETER is ${value:-not readable}: the server has not started yet"
        return 1
    }
}

node=$(metadata instance-id)
zone=$(metadata placement/availability-zone)
install_k3s
install_credential_provider
log "waiting for the server"
retry 1800 "no join token" join_token_is_there
mkdir -p /etc/rancher/k3s
parameter "$JOIN_TOKEN_PARAMETER" >/etc/rancher/k3s/token
cat >/etc/rancher/k3s/config.yaml <<YAML
server: https://$SERVER_ADDRESS:6443
token-file: /etc/rancher/k3s/token
node-name: $node
node-label: [topology.kubernetes.io/zone=$zone]
YAML
start_k3s agent
retry 600 "k3s did not start (see journalctl -u k3s)" systemctl is-active --quiet k3s
log "joined as $node"
