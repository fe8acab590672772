"""Options that commands share, and the decorator that gives a command those of the cluster."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from kubectl_promotion.cluster.kubectl import Kubectl
from kubectl_promotion.completion_sources import complete_contexts, complete_names, complete_namespaces
from kubectl_promotion.views.output import Format

_PANEL = "Cluster"
Name = Annotated[
    str | None,
    typer.Argument(help="Of the ModelPromotion; not needed if the namespace has one alone.", show_default=False,
                   autocompletion=complete_names),
]  # fmt: skip
Output = Annotated[Format, typer.Option("--output", "-o", help="Text for people, or JSON or YAML for programs.")]
Timeout = Annotated[str, typer.Option(help="How long to wait, as in 90s or 1h30m.", metavar="DURATION")]


def _options(
    namespace: Annotated[str | None, typer.Option(
        "--namespace", "-n", help="Default: the context's.", rich_help_panel=_PANEL,
        autocompletion=complete_namespaces)] = None,
    context: Annotated[str | None, typer.Option(
        help="Of the kubeconfig.", rich_help_panel=_PANEL, autocompletion=complete_contexts)] = None,
    kubeconfig: Annotated[str | None, typer.Option(
        help="Default: KUBECONFIG, or ~/.kube/config.", rich_help_panel=_PANEL)] = None,
    as_user: Annotated[str | None, typer.Option(
        "--as", help="Act as this user, if you may.", rich_help_panel=_PANEL)] = None,
    as_group: Annotated[list[str] | None, typer.Option(
        help="With --as: and as a member of this group. May be repeated.", rich_help_panel=_PANEL)] = None,
) -> Kubectl:  # fmt: skip
    given = {"kubeconfig": kubeconfig, "context": context, "as": as_user}
    flags = tuple(f"--{name}={value}" for name, value in given.items() if value is not None)
    return Kubectl((*flags, *(f"--as-group={group}" for group in as_group or ())), namespace)


def with_cluster(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command that takes the options of the cluster, and gives its first parameter a `Kubectl` from them."""
    own = list(inspect.signature(command).parameters.values())[1:]
    shared = list(inspect.signature(_options).parameters.values())
    names = {parameter.name for parameter in shared}

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:  # noqa: ANN401 - whatever the command takes
        kubectl = _options(**{name: value for name, value in given.items() if name in names})
        command(kubectl, **{name: value for name, value in given.items() if name not in names})

    parameters = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in (*own, *shared)]
    hints = get_type_hints(command, include_extras=True) | get_type_hints(_options, include_extras=True)
    wrapped.__signature__ = inspect.Signature(  # type: ignore[attr-defined]  # what typer reads
        [parameter.replace(annotation=hints[parameter.name]) for parameter in parameters]
    )
    wrapped.__annotations__ = {parameter.name: hints[parameter.name] for parameter in parameters}
    return wrapped
