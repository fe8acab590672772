#!/usr/bin/env bash
# Drain the agents that the Auto Scaling Group is about to terminate, let it terminate them, and delete the Node objects
# of agents that no longer exist. Run on the server every few seconds.
# shellcheck source=SCRIPTDIR/lib.sh
source /opt/creditrisk/lib.sh

group() {
    local found
    found=$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$AGENT_GROUP" --output text \
        --query "AutoScalingGroups[0].Instances[$1].InstanceId") || die "cannot list the agents of $AGENT_GROUP"
    tr -s '\t' '\n' <<<"$found" | grep -v '^None$' || [ $? = 1 ]
}

terminating=$(group "?LifecycleState=='Terminating:Wait'")
members=$(group "")
nodes=$(k3s kubectl get nodes --output=jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')

for instance in $terminating; do
    if grep -qx "$instance" <<<"$nodes"; then
        log "draining $instance"
        k3s kubectl drain "$instance" --ignore-daemonsets --delete-emptydir-data --timeout=300s ||
            log "$instance still has pods after five minutes; terminating it anyway"
        k3s kubectl delete node "$instance"
    fi
    aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$AGENT_GROUP" --instance-id "$instance" \
        --lifecycle-hook-name "$DRAIN_HOOK" --lifecycle-action-result CONTINUE
done

for node in $nodes; do
    if [[ $node == i-* ]] && [ -n "$members" ] && ! grep -qx "$node" <<<"$members"; then
        log "$node no longer exists; deleting its Node object"
        k3s kubectl delete node "$node"
    fi
done
