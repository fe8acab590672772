#!/usr/bin/env bash
# Make this instance the cluster's server. Run once, by cloud-init. A replacement uses its predecessor's data disk or,
# if that was lost, the newest snapshot.
# shellcheck source=SCRIPTDIR/lib.sh
source /opt/creditrisk/lib.sh

NODE="$NODE_NAME_PREFIX-server"
CONFIG=/etc/rancher/k3s
DEVICE="/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_${DATA_VOLUME/-/}"
RESTORED=no

mount_data() {
    log "waiting for the disk $DATA_VOLUME"
    retry 600 "the disk $DATA_VOLUME is not attached at $DEVICE" test -e "$DEVICE"
    if ! blkid "$DEVICE" >/dev/null; then
        log "the disk is new: creating a file system"
        mkfs.ext4 -q -L credit-risk "$DEVICE"
    fi
    mkdir -p "$DATA"
    grep -qs "^$DEVICE " /etc/fstab ||
        echo "$DEVICE $DATA ext4 defaults,nofail,x-systemd.device-timeout=300s 0 2" >>/etc/fstab
    mountpoint --quiet "$DATA" || mount "$DATA"
    # Keep the node's password on the data disk: k3s refuses a node of the same name with another password.
    mkdir -p "$DATA/node" /etc/rancher
    ln -sfn "$DATA/node" /etc/rancher/node
}

write_configuration() {
    local server_token agent_token zone
    zone=$(metadata placement/availability-zone)
    server_token=$(parameter "$SERVER_TOKEN_PARAMETER") || die "cannot read the parameter $SERVER_TOKEN_PARAMETER"
    agent_token=$(parameter "$AGENT_TOKEN_PARAMETER") || die "cannot read the parameter $AGENT_TOKEN_PARAMETER"
    mkdir -p "$CONFIG"
    # `-=` puts this issuer before k3s's own: it signs new tokens, and k3s's own is still accepted.
    cat >"$CONFIG/config.yaml" <<YAML
node-name: $NODE
cluster-init: true
token: $server_token
agent-token: $agent_token
secrets-encryption: true
disable: [servicelb]
node-label: [creditrisk.io/disk=kept, topology.kubernetes.io/zone=$zone]
etcd-s3: true
etcd-s3-bucket: $BACKUP_BUCKET
etcd-s3-region: $AWS_REGION
etcd-s3-folder: etcd
etcd-snapshot-schedule-cron: "0 */6 * * *"
etcd-snapshot-retention: 28
kube-apiserver-arg:
  - authentication-config=$CONFIG/authentication.yaml
  - service-account-issuer-=$ISSUER
  - service-account-jwks-uri=$ISSUER/openid/v1/jwks
YAML
    cat >"$CONFIG/authentication.yaml" <<YAML
apiVersion: apiserver.config.k8s.io/v1beta1
kind: AuthenticationConfiguration
jwt:
  - issuer:
      url: https://token.actions.githubusercontent.com
      audiences: [$NODE_NAME_PREFIX]
    claimValidationRules:
      - {claim: repository_id, requiredValue: "$GITHUB_REPOSITORY_ID"}
      - {claim: environment, requiredValue: "$GITHUB_ENVIRONMENT"}
    claimMappings:
      username: {claim: sub, prefix: "github:"}
      groups: {expression: '["creditrisk:deployers"]'}
YAML
}

write_manifests() {
    mkdir -p "$DATA/k3s/server/manifests"
    cp /opt/creditrisk/manifests/*.yaml "$DATA/k3s/server/manifests/"
    [ -n "${DATABASE_PASSWORD_PARAMETER:-}" ] || return 0
    local password
    password=$(parameter "$DATABASE_PASSWORD_PARAMETER") || die "cannot read the parameter $DATABASE_PASSWORD_PARAMETER"
    cat >"$DATA/k3s/server/manifests/credit-risk-database.yaml" <<YAML
apiVersion: v1
kind: Secret
metadata: {name: postgres-credentials, namespace: $NAMESPACE}
stringData: {username: "$DATABASE_USERNAME", password: "$password", database: "$DATABASE_NAME"}
YAML
}

# No cluster on the disk but snapshots in the bucket mean that the disk was lost.
restore() {
    [ ! -e "$DATA/k3s/server/db/etcd" ] || return 0
    local key
    # shellcheck disable=SC2016  # the backticks belong to the query
    key=$(aws s3api list-objects-v2 --bucket "$BACKUP_BUCKET" --prefix etcd/ --output text \
        --query 'sort_by(Contents || `[]`, &LastModified)[-1].Key') || die "cannot list the snapshots in $BACKUP_BUCKET"
    if [ "$key" = None ]; then
        log "no snapshot in $BACKUP_BUCKET: starting a new cluster"
        return 0
    fi
    log "restoring $(basename "$key")"
    k3s server --cluster-reset --cluster-reset-restore-path="$(basename "$key")" || die "cannot restore the snapshot $key"
    RESTORED=yes
}

# Publish what others need: the join token for agents, the public keys for AWS, the CA certificate for GitHub's jobs.
publish() {
    local folder
    folder=$(mktemp -d)
    log "publishing the join token, the public keys, and the CA certificate"
    aws ssm put-parameter --overwrite --type SecureString --name "$JOIN_TOKEN_PARAMETER" \
        --value "file://$DATA/k3s/server/agent-token" >/dev/null
    for path in .well-known/openid-configuration openid/v1/jwks; do
        k3s kubectl get --raw "/$path" >"$folder/document"
        aws s3api put-object --bucket "$IDENTITY_BUCKET" --key "$path" --body "$folder/document" \
            --content-type application/json >/dev/null
    done
    aws s3api put-object --bucket "$IDENTITY_BUCKET" --key ca.crt --body "$DATA/k3s/server/tls/server-ca.crt" \
        --content-type application/x-pem-file >/dev/null
    rm -r "$folder"
}

watch_agents() {
    cat >/etc/systemd/system/creditrisk-drain.service <<'UNIT'
[Unit]
Description=Drain agents that are about to be terminated
[Service]
Type=oneshot
ExecStart=/opt/creditrisk/drain.sh
UNIT
    cat >/etc/systemd/system/creditrisk-drain.timer <<'UNIT'
[Timer]
OnActiveSec=15s
OnUnitInactiveSec=15s
[Install]
WantedBy=timers.target
UNIT
    systemctl daemon-reload
    systemctl enable --now creditrisk-drain.timer
}

mount_data
install_k3s
install_credential_provider
write_configuration
write_manifests
restore
log "starting k3s"
start_k3s server
retry 900 "Kubernetes did not start (see journalctl -u k3s)" k3s kubectl get --raw /readyz
if [ "$RESTORED" = yes ]; then
    # The snapshot has the password of the lost disk for this node name.
    k3s kubectl --namespace kube-system delete secret "$NODE.node-password.k3s" --ignore-not-found
fi
publish
watch_agents
log "the server is ready"
