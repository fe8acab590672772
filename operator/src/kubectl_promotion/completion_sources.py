"""What completes names on the command line; a cluster that does not answer completes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import typer

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.cluster.promotions import find, find_all
from kubectl_promotion.errors import CommandError


def complete_names(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the namespace's ModelPromotions that begin so."""
    kubectl = _kubectl(context)
    return _beginning(incomplete, lambda: (found.name for found in find_all(kubectl, everywhere=False)))


def complete_versions(context: typer.Context, incomplete: str) -> list[str]:
    """Return the versions that a ModelPromotion remembers and that begin so."""

    def versions() -> Iterable[str]:
        state = find(_kubectl(context), context.params.get("name")).state
        ended = (entry.version for entry in state.history)
        present = filter(None, (state.stable_version, state.canary_version, state.desired_version))
        return dict.fromkeys((*present, *state.stable_history, *ended))

    return _beginning(incomplete, versions)


def complete_contexts(context: typer.Context, incomplete: str) -> list[str]:
    """Return the contexts of the kubeconfig that begin so."""
    kubectl = _kubectl(context)
    return _beginning(incomplete, lambda: kubectl.run("config", "get-contexts", "--output=name").split())


def complete_namespaces(context: typer.Context, incomplete: str) -> list[str]:
    """Return the namespaces that begin so."""
    kubectl = _kubectl(context)

    def namespaces() -> Iterable[str]:
        return (item["metadata"]["name"] for item in kubectl.get("/api/v1/namespaces").get("items") or [])

    return _beginning(incomplete, namespaces)


def _kubectl(context: typer.Context) -> Kubectl:
    given = context.params
    flags = (f"--{name}={given[name]}" for name in ("kubeconfig", "context") if given.get(name))
    return Kubectl(tuple(flags), given.get("namespace"))


def _beginning(incomplete: str, names: Callable[[], Iterable[str]]) -> list[str]:
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except CommandError:
        return []
