"""TabM (Gorishniy et al., 2025) with the defaults of its package and the training loop of its example."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer
from torch.nn.functional import binary_cross_entropy_with_logits

if TYPE_CHECKING:
    from trainer.data.dataset import Dataset
    from trainer.data.declaration import FeatureDeclaration

_BATCH_ROWS, _EVALUATION_ROWS = 256, 2_048
_LEARNING_RATE, _WEIGHT_DECAY = 2e-3, 3e-4
_PATIENCE = 16
_VALIDATION_SHARE = 0.2


class TabMLearner:
    """Fits TabM with piecewise-linear embeddings; missing numbers are medians with a category that says so."""

    def __init__(self, training: Dataset, declaration: FeatureDeclaration, seed: int) -> None:
        """Train until sixteen epochs bring no better loss on a fifth of the rows."""
        from rtdl_num_embeddings import PiecewiseLinearEmbeddings, compute_bins
        from tabm import TabM

        torch.manual_seed(seed)
        quantiles = max(10, min(1_000, len(training) // 30))
        self._scaler = make_pipeline(
            SimpleImputer(strategy="median"), QuantileTransformer(n_quantiles=quantiles, output_distribution="normal")
        ).fit(training.numeric)
        self._may_be_missing = np.flatnonzero(declaration.inputs.missing)
        inputs, target = self._inputs(training), torch.from_numpy(training.target)
        order = torch.randperm(len(training))
        held, learned = order[: int(_VALIDATION_SHARE * len(order))], order[int(_VALIDATION_SHARE * len(order)) :]
        embeddings = PiecewiseLinearEmbeddings(
            compute_bins(inputs[0][learned]), d_embedding=16, activation=False, version="B"
        )
        self._model = TabM.make(
            n_num_features=inputs[0].shape[1],
            cat_cardinalities=[max(column.codes) + 1 for column in declaration.inputs.categories]
            + [2] * len(self._may_be_missing),
            d_out=1,
            num_embeddings=embeddings,
        )
        self._train(inputs, target, learned, held)

    def __call__(self, rows: Dataset) -> npt.NDArray[np.float64]:
        """Return the mean of the submodels' probabilities."""
        inputs = self._inputs(rows)
        chosen = torch.split(torch.arange(len(rows)), _EVALUATION_ROWS)
        self._model.eval()
        with torch.no_grad():
            parts = [torch.sigmoid(self._logits(inputs, part)).mean(1) for part in chosen]
        return torch.cat(parts).numpy().astype(np.float64)

    def _inputs(self, rows: Dataset) -> tuple[torch.Tensor, torch.Tensor]:
        missing = np.isnan(rows.numeric[:, self._may_be_missing]).astype(np.int64)
        numbers = self._scaler.transform(rows.numeric).astype(np.float32)
        return torch.from_numpy(numbers), torch.from_numpy(np.concatenate([rows.categorical, missing], axis=1))

    def _logits(self, inputs: tuple[torch.Tensor, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        """Return the submodels' logits, float32 [rows, k]."""
        logits: torch.Tensor = self._model(inputs[0][rows], inputs[1][rows]).squeeze(-1)
        return logits

    def _train(
        self,
        inputs: tuple[torch.Tensor, torch.Tensor],
        target: torch.Tensor,
        learned: torch.Tensor,
        held: torch.Tensor,
    ) -> None:
        optimizer = torch.optim.AdamW(self._model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
        best, lowest, waited = deepcopy(self._model.state_dict()), np.inf, 0
        while waited < _PATIENCE:
            self._model.train()
            for batch in torch.split(learned[torch.randperm(len(learned))], _BATCH_ROWS):
                logits = self._logits(inputs, batch)
                loss = binary_cross_entropy_with_logits(logits, target[batch, None].expand_as(logits))
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            self._model.eval()
            with torch.no_grad():
                parts = [torch.sigmoid(self._logits(inputs, part)).mean(1) for part in held.split(_EVALUATION_ROWS)]
            reached = float(torch.nn.functional.binary_cross_entropy(torch.cat(parts), target[held]))
            waited += 1
            if reached < lowest:
                best, lowest, waited = deepcopy(self._model.state_dict()), reached, 0
        self._model.load_state_dict(best)
