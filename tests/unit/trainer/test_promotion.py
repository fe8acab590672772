import pytest

from trainer.errors import GateRefusedError, TrackingError
from trainer.evaluation.gates import Gate
from trainer.tracking.promotion import promote_if_still_better


def gate(*, passed: bool) -> Gate:
    return Gate("not_worse_than_production", passed, 0.0, 0.0, "")


class MovingPointer:
    """A registry whose Production version moves at each look, as by other trainings."""

    def __init__(self, *seen: str | None) -> None:
        self.seen = list(seen)
        self.promoted: list[tuple[str, str | None]] = []

    def production_version(self) -> str | None:
        return self.seen.pop(0)

    def promote(self, version: str, *, replacing: str | None) -> None:
        self.promoted.append((version, replacing))


def never_called(version: str) -> tuple[Gate, ...]:
    raise AssertionError(version)


@pytest.mark.parametrize("champion", [None, "1"])
def test_an_unmoved_pointer_is_moved_without_another_comparison(champion: str | None) -> None:
    registry = MovingPointer(champion)
    assert promote_if_still_better(registry, "2", compared_with=champion, compare=never_called) == champion
    assert registry.promoted == [("2", champion)]


def test_a_version_promoted_meanwhile_is_compared_with_and_replaced_if_not_better() -> None:
    registry, asked = MovingPointer("3", "3"), []

    def compare(version: str) -> tuple[Gate, ...]:
        asked.append(version)
        return (gate(passed=True),)

    assert promote_if_still_better(registry, "4", compared_with="1", compare=compare) == "3"
    assert (asked, registry.promoted) == (["3"], [("4", "3")])


def test_a_better_version_promoted_meanwhile_stays() -> None:
    registry = MovingPointer("3")
    with pytest.raises(GateRefusedError):
        promote_if_still_better(registry, "4", compared_with="1", compare=lambda _: (gate(passed=False),))
    assert registry.promoted == []


def test_a_pointer_that_never_rests_is_given_up_on() -> None:
    registry = MovingPointer(*"abcdefgh")
    with pytest.raises(TrackingError):
        promote_if_still_better(registry, "4", compared_with="1", compare=lambda _: (gate(passed=True),))
    assert registry.promoted == []


def test_a_repeated_attempt_after_its_own_promotion_is_harmless() -> None:
    registry = MovingPointer("2")
    promote_if_still_better(registry, "2", compared_with="1", compare=never_called)
    assert registry.promoted == [("2", "1")]
