import pytest

from trainer.errors import GateRefusedError, TrackingError
from trainer.evaluation.gates import Gate
from trainer.tracking.production_pointer import move_pointer_if_still_better


def gate(*, passed: bool) -> Gate:
    return Gate("not_worse_than_production", passed, 0.0, 0.0, "")


class MovingPointer:
    """A registry whose Production version changes with every look, as if other training runs moved the pointer."""

    def __init__(self, *seen: str | None) -> None:
        self.seen = list(seen)
        self.moves: list[tuple[str, str | None]] = []

    def production_version(self) -> str | None:
        return self.seen.pop(0)

    def move_production_pointer(self, version: str, *, replacing: str | None) -> None:
        self.moves.append((version, replacing))


def never_called(version: str) -> tuple[Gate, ...]:
    raise AssertionError(version)


@pytest.mark.parametrize("champion", [None, "1"])
def test_a_pointer_that_did_not_move_is_moved_without_another_comparison(champion: str | None) -> None:
    registry = MovingPointer(champion)
    assert move_pointer_if_still_better(registry, "2", compared_with=champion, compare=never_called) == champion
    assert registry.moves == [("2", champion)]


def test_a_new_production_version_is_compared_with_and_replaced_unless_it_is_better() -> None:
    registry, compared = MovingPointer("3", "3"), []

    def compare(version: str) -> tuple[Gate, ...]:
        compared.append(version)
        return (gate(passed=True),)

    assert move_pointer_if_still_better(registry, "4", compared_with="1", compare=compare) == "3"
    assert (compared, registry.moves) == (["3"], [("4", "3")])


def test_a_better_new_production_version_is_not_replaced() -> None:
    registry = MovingPointer("3")
    with pytest.raises(GateRefusedError):
        move_pointer_if_still_better(registry, "4", compared_with="1", compare=lambda _: (gate(passed=False),))
    assert registry.moves == []


def test_a_pointer_that_keeps_moving_is_an_error() -> None:
    registry = MovingPointer(*"abcdefgh")
    with pytest.raises(TrackingError, match="moved 5 times"):
        move_pointer_if_still_better(registry, "4", compared_with="1", compare=lambda _: (gate(passed=True),))
    assert registry.moves == []


def test_a_move_can_be_repeated() -> None:
    registry = MovingPointer("2")
    assert move_pointer_if_still_better(registry, "2", compared_with="1", compare=never_called) == "1"
    assert registry.moves == [("2", "1")]
