"""What `make up` prints at the end."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from localcluster.console import say
from localcluster.stack import Stack


def report(stack: Stack, scored: Mapping[str, Any]) -> None:
    """Print the first score, the stack's addresses and what to try next.

    Args:
        stack: The installed stack.
        scored: What `Stack.score_reference` returned.
    """
    answer = scored["answer"]
    body = shlex.quote(json.dumps(scored["application"]))
    say()
    say(f"Ready. Scored a first loan through the ingress: probability of default "
        f"{answer['probability_of_default']:.4f}, decision: {answer['decision']}, "
        f"model: {answer['model']['name']} version {answer['model']['version']}")  # fmt: skip
    say(f"  Scoring     {stack.url}/v1/score   (API documentation: {stack.url}/docs)")
    say(f"  MLflow      {stack.mlflow_url}")
    say(f"  Kubeconfig  {stack.cluster.kubeconfig}")
    say(f"  Logs        {stack.cluster.paths.logs}")
    say("Try next:")
    say(f"  curl -s {stack.url}/v1/score -H 'Content-Type: application/json' -d {body}")
    if stack.decision_log != "off":
        say(f"  curl -s -H 'Authorization: Bearer {stack.decisions_key}' '{stack.url}/v1/decisions?limit=10'")
    say('  eval "$(make -s env)" && kubectl get pods')
    if stack.monitoring:
        say("  kubectl port-forward service/prometheus 9090   # then http://127.0.0.1:9090/alerts")
    say('  make train ARGS="--seed 1"   # train another model and watch the operator roll it out')
    say("  make status")
