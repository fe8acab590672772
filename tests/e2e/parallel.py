"""Runs promotion scenarios in parallel: the first one that pytest calls starts all that were selected.

pytest calls one test at a time, and a rollout mostly waits. So a test marked `@promotion_scenario` only waits for the
result of its scenario, which runs in a thread, in the next free namespace.
"""

from __future__ import annotations

import inspect
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from e2e.namespace import ScenarioNamespace
from e2e.scenario import Scenario

Body = Callable[..., None]


@dataclass(frozen=True)
class Fixture:
    """What is set up for a scenario before its body runs.

    Attributes:
        namespaces: How many namespaces it needs; its body gets one Scenario for each.
        own_operator: Whether it needs the namespace with an operator of its own, because it kills the operator.
        clients: Whether steady clients send requests from beginning to end, all of which must get a score.
        spec: Fields of the ModelPromotion that is at rest when the body begins; None for no ModelPromotion.
    """

    namespaces: int
    own_operator: bool
    clients: bool
    spec: Mapping[str, object] | None


def promotion_scenario(
    *, namespaces: int = 1, own_operator: bool = False, clients: bool = True, following: bool = True, **spec: object
) -> Callable[[Body], Body]:
    """Mark a test as a scenario, given a served champion, a ModelPromotion at rest, and steady clients.

    Args:
        namespaces: How many namespaces the test takes; its first arguments are as many Scenarios.
        own_operator: Take the namespace with an operator of its own, for tests that kill the operator.
        clients: Whether clients send requests from the beginning to the end of the test.
        following: Whether there is a ModelPromotion when the test begins.
        spec: Fields of that ModelPromotion's spec.
    """
    fixture = Fixture(namespaces, own_operator, clients, spec if following else None)
    return lambda body: _waiting_test(body, fixture)


def _waiting_test(body: Body, fixture: Fixture) -> Body:
    """Return a test with the parameters of the scenario's parametrization, which waits for the scenario's result."""

    def wait(scenarios: ScenarioRuns, request: pytest.FixtureRequest, **_: object) -> None:
        scenarios.result(request.node)

    parameters = list(inspect.signature(body).parameters)[fixture.namespaces :]
    names = [*parameters, "scenarios", "request"]
    keywords = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in names]
    wait.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    wait.__name__, wait.__doc__ = body.__name__, body.__doc__
    wait.scenario, wait.fixture = body, fixture  # type: ignore[attr-defined]
    wait.pytestmark = getattr(body, "pytestmark", [])  # type: ignore[attr-defined]
    return wait


def is_scenario(item: pytest.Item) -> bool:
    """Return whether a test waits for the result of a scenario."""
    return isinstance(item, pytest.Function) and hasattr(item.function, "scenario")


class NamespacePool:
    """The namespaces that no scenario runs in at the moment."""

    def __init__(self, namespaces: Sequence[ScenarioNamespace]) -> None:
        """Take all namespaces, those with an operator of their own among them."""
        kinds = (False, True)
        self._free: dict[bool, queue.SimpleQueue[ScenarioNamespace]] = {kind: queue.SimpleQueue() for kind in kinds}
        # One scenario at a time takes namespaces: two that need two and have one each would wait for each other.
        self._taking = {kind: threading.Lock() for kind in kinds}
        for namespace in namespaces:
            self._free[namespace.own_operator].put(namespace)

    def take(self, fixture: Fixture) -> list[ScenarioNamespace]:
        """Wait for as many namespaces as a scenario needs."""
        with self._taking[fixture.own_operator]:
            return [self._free[fixture.own_operator].get() for _ in range(fixture.namespaces)]

    def give_back(self, namespaces: Sequence[ScenarioNamespace]) -> None:
        """Let other scenarios have these namespaces."""
        for namespace in namespaces:
            self._free[namespace.own_operator].put(namespace)


class ScenarioRuns:
    """The running and ended scenarios of all selected tests."""

    def __init__(self, items: Sequence[pytest.Item], namespaces: Sequence[ScenarioNamespace]) -> None:
        """Start every scenario among the tests that were selected."""
        self._pool = NamespacePool(namespaces)
        own = sum(namespace.own_operator for namespace in namespaces)
        self._threads = {False: ThreadPoolExecutor(len(namespaces) - own), True: ThreadPoolExecutor(max(1, own))}
        selected = [item for item in items if isinstance(item, pytest.Function) and is_scenario(item)]
        self._first = {item.nodeid: self._start(item) for item in selected}

    def result(self, item: pytest.Function) -> None:
        """Wait for a test's scenario, and raise what it failed with.

        A test that pytest calls again runs its scenario again, after those that wait for a namespace already.
        """
        first = self._first.pop(item.nodeid, None)
        seconds = (first or self._start(item)).result()
        item.user_properties.append(("scenario_seconds", seconds))

    def close(self) -> None:
        """Wait for the scenarios that run, and start no other."""
        for executor in self._threads.values():
            executor.shutdown(cancel_futures=True)

    def _start(self, item: pytest.Function) -> Future[float]:
        return self._threads[item.function.fixture.own_operator].submit(_run, item, self._pool)


def _run(item: pytest.Function, pool: NamespacePool) -> float:
    """Run a scenario, and return how many seconds it had its namespaces."""
    fixture: Fixture = item.function.fixture
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    taken = pool.take(fixture)
    scenarios = [Scenario(namespace) for namespace in taken]
    started = time.monotonic()
    try:
        with ExitStack() as clients:
            for scenario in scenarios:
                _set_up(scenario, fixture, clients)
            item.function.scenario(*scenarios, **parameters)
        return time.monotonic() - started
    except Exception as error:
        error.add_note("\n".join(scenario.describe() for scenario in scenarios))
        for namespace in taken:
            namespace.needs_reinstall = True
        raise
    finally:
        pool.give_back(taken)


def _set_up(scenario: Scenario, fixture: Fixture, clients: ExitStack) -> None:
    if scenario.namespace.needs_reinstall:
        scenario.namespace.reinstall()
    if fixture.spec is not None:
        scenario.follow_pointer(**fixture.spec)
    if fixture.clients:
        clients.enter_context(scenario.steady_clients())
