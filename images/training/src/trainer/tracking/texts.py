"""Texts within the lengths that MLflow's database has room for; SQLite does not enforce them, Postgres does."""

# Of a model version's description, and of a run's tag (its description is one), in characters.
LONGEST_DESCRIPTION, LONGEST_TAG = 5_000, 8_000
_REST = "\n\n(Shortened. The run's artifact model_card.md has all of it.)\n"


def shortened(card: str, most: int) -> str:
    """Return a model card of at most `most` characters, which ends between two of its paragraphs or tables."""
    if len(card) <= most:
        return card
    kept = card[: most - len(_REST)]
    return (kept.rpartition("\n\n")[0] or kept) + _REST
