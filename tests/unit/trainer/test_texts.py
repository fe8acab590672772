"""What MLflow's database has room for."""

from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlTag

from trainer.tracking.texts import LONGEST_DESCRIPTION, LONGEST_TAG, shortened


def test_the_lengths_are_those_of_mlflows_database() -> None:
    assert SqlModelVersion.__table__.c.description.type.length == LONGEST_DESCRIPTION
    assert SqlTag.__table__.c.value.type.length == LONGEST_TAG


@given(st.text("ab\n", max_size=300), st.integers(70, 300))
def test_a_card_is_never_longer_than_asked_and_unchanged_if_it_is_short_enough(card: str, most: int) -> None:
    assert len(shortened(card, most)) <= most
    assert len(card) > most or shortened(card, most) == card


def test_a_long_card_ends_with_a_whole_paragraph_and_says_where_the_rest_is() -> None:
    card = "# Card\n\n" + "".join(f"Paragraph {number} of many.\n\n" for number in range(100))
    kept, _, note = shortened(card, 500).rpartition("\n\n")
    assert note == "(Shortened. The run's artifact model_card.md has all of it.)\n"
    assert card.startswith(kept + "\n\n")
    assert kept.endswith(" of many.")
    assert shortened("x" * 600, 500).startswith("x" * 400)
