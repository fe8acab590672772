"""Hyperparameters and their defaults for a given number of training rows."""

from dataclasses import dataclass, replace
from enum import StrEnum

from trainer.errors import BadInputError
from trainer.learning.network import Architecture
from trainer.learning.prior_shift import ClassWeight

# An ensemble of narrow heads pays off with few rows; with many rows, one wide head is as good and faster.
_HEAD_ROWS = 250_000
# With the linear model, which becomes a head of its own, the exported graph has 16.
_MAXIMUM_HEADS = 15
_STEPS_PER_EPOCH = 50
# Few rows make short epochs, of which it takes more.
_STEPS = 1_500
_FEWEST_EPOCHS, _MOST_EPOCHS = 24, 200
_LEAST_PATIENCE = 4
_NARROW, _WIDE = (32, 32), (64, 64)
# Beyond, one class is as good as absent.
_LARGEST_FACTOR = 1e4
_NARROW_RATE, _WIDE_RATE = 1.2e-2, 4e-3


class Precision(StrEnum):
    """In which numbers the heads' matrix products are computed while they train; weights and sums are float32."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


@dataclass(frozen=True)
class Hyperparameters:
    """What shapes the network and its training.

    Attributes:
        heads: Independent heads, averaged; 0 chooses by the number of rows.
        hidden: Widths of each head's hidden layers; empty chooses by the number of rows.
        bins: Piecewise-linear bins per numeric feature.
        dropout: Share of hidden units dropped during training.
        learning_rate: Peak of the warm-up and cosine schedule; 0 chooses by the number of rows.
        weight_decay: AdamW's decoupled weight decay.
        batch_rows: Rows per step; 0 chooses by the number of rows.
        folds: Number of folds; each head is validated on one of them and never trained on it.
        epochs: Maximum number of passes over the rows; 0 chooses by the number of rows.
        patience: Training stops after this many epochs without a better validation loss; 0 chooses a sixth of the
            epochs, but at least 4.
        class_weight: How much more a default counts in training than a repaid loan; `balanced` weighs both alike.
        precision: In which numbers matrix products are computed.
    """

    heads: int = 0
    hidden: tuple[int, ...] = ()
    bins: int = 16
    dropout: float = 0.2
    learning_rate: float = 0.0
    weight_decay: float = 1e-2
    batch_rows: int = 0
    folds: int = 5
    epochs: int = 0
    patience: int = 0
    class_weight: ClassWeight = 1.0
    precision: Precision = Precision.FLOAT32

    def __post_init__(self) -> None:
        limits = {
            "heads": self.heads >= 0,
            "hidden": all(width > 0 for width in self.hidden),
            "bins": self.bins > 0,
            "dropout": 0 <= self.dropout < 1,
            "learning_rate": self.learning_rate >= 0,
            "weight_decay": self.weight_decay >= 0,
            "batch_rows": self.batch_rows >= 0,
            "folds": self.folds > 1,
            "epochs": self.epochs >= 0,
            "patience": self.patience >= 0,
            "class_weight": self.class_weight == "balanced"
            or 1 / _LARGEST_FACTOR <= self.class_weight <= _LARGEST_FACTOR,
        }
        if wrong := [f"{name}={getattr(self, name)}" for name, fine in limits.items() if not fine]:
            raise BadInputError(f"hyperparameters out of range: {', '.join(wrong)}")

    def for_rows(self, rows: int) -> "Hyperparameters":
        """Return a copy with everything that was left open resolved for this many training rows."""
        heads = self.heads or max(1, min(_MAXIMUM_HEADS, round(_HEAD_ROWS / rows)))
        batch_rows = self.batch_rows or min(4096, max(256, 1 << max(1, rows // _STEPS_PER_EPOCH).bit_length() - 1))
        epochs = self.epochs or max(_FEWEST_EPOCHS, min(_MOST_EPOCHS, round(_STEPS * batch_rows / rows)))
        return replace(
            self,
            heads=heads,
            hidden=self.hidden or (_NARROW if heads > 1 else _WIDE),
            learning_rate=self.learning_rate or (_NARROW_RATE if heads > 1 else _WIDE_RATE),
            batch_rows=batch_rows,
            epochs=epochs,
            patience=self.patience or max(_LEAST_PATIENCE, epochs // 6),
        )

    @property
    def architecture(self) -> Architecture:
        """The hyperparameters that shape the network."""
        return Architecture(self.heads, self.hidden, self.bins, self.dropout)
