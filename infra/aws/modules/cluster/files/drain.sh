#!/usr/bin/env bash
# Take the pods off the agents that the Auto Scaling Group wants to end, then let them go; forget those that are gone.
# Run on the server every few seconds.
# shellcheck source=SCRIPTDIR/lib.sh
source /opt/creditrisk/lib.sh

group() {
    local found
    found=$(aws autoscaling describe-auto-scaling-groups --auto-scaling-group-names "$AGENT_GROUP" --output text \
        --query "AutoScalingGroups[0].Instances[$1].InstanceId") || die "cannot ask for the agents of $AGENT_GROUP"
    tr -s '\t' '\n' <<<"$found" | grep -v '^None$' || [ $? = 1 ]
}

going=$(group "?LifecycleState=='Terminating:Wait'")
members=$(group "")
nodes=$(k3s kubectl get nodes --output=jsonpath='{range .items[*]}{.metadata.name}{"\n"}{end}')

for instance in $going; do
    if grep -qx "$instance" <<<"$nodes"; then
        say "drain $instance"
        k3s kubectl drain "$instance" --ignore-daemonsets --delete-emptydir-data --timeout=300s ||
            say "$instance is not empty after five minutes, and goes all the same"
        k3s kubectl delete node "$instance"
    fi
    aws autoscaling complete-lifecycle-action --auto-scaling-group-name "$AGENT_GROUP" --instance-id "$instance" \
        --lifecycle-hook-name "$DRAIN_HOOK" --lifecycle-action-result CONTINUE
done

for node in $nodes; do
    if [[ $node == i-* ]] && [ -n "$members" ] && ! grep -qx "$node" <<<"$members"; then
        say "$node is gone"
        k3s kubectl delete node "$node"
    fi
done
