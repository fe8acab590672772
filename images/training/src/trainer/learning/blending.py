"""The heads and the linear models as one network, each weighted by what it adds to the prediction of unseen rows."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from scipy.special import expit
from torch import Tensor

from trainer.learning.linear import LinearModels
from trainer.learning.monotone import unbounded
from trainer.learning.network import Architecture, Encoding, PackedLinear, RiskNetwork

# More rows than this do not make two weights better known.
_ROWS = 20_000
# Of the two weights and the shift: before any row is seen, both parts count for one half, which is worth a few rows.
_PRIORS, _STRENGTHS = np.array([0.5, 0.5, 0.0]), np.array([1.0, 1.0, 1e-6])
_BOUNDS = ((0, None), (0, None), (None, None))
_PRECISION = {"ftol": 1e-12, "gtol": 1e-8}

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Blend:
    """`logit = linear * (the linear model's) + heads * (the heads' mean) + shift`; no weight is negative."""

    linear: float
    heads: float
    shift: float

    def apply(self, linear: Tensor, heads: Tensor) -> Tensor:
        """Return the blended logits, [N]."""
        return self.linear * linear + self.heads * heads + self.shift


ONLY_HEADS = Blend(linear=0.0, heads=1.0, shift=0.0)


@torch.no_grad()
def blend(linear: Tensor, heads: Tensor, target: Tensor, weight: Tensor | None = None) -> Blend:
    """Find the weights with the least log loss on rows that neither part was trained on.

    Args:
        linear: Out-of-fold logits of the linear models, [N].
        heads: Out-of-fold mean logits of the heads, [N].
        target: 1 for default, 0 for repaid, [N].
        weight: How many loans each row stands for, [N]; None for one each.
    """
    every = slice(None, None, -(-len(target) // _ROWS))
    parts = torch.stack([linear[every], heads[every], torch.ones_like(target[every])], dim=1).double().cpu().numpy()
    truth = target[every].double().cpu().numpy()
    counted = np.ones(len(truth)) if weight is None else weight[every].double().cpu().numpy()

    def objective(weights: Vector) -> tuple[float, Vector]:
        logit, pull = parts @ weights, _STRENGTHS * (weights - _PRIORS)
        loss = counted @ (np.logaddexp(0, logit) - truth * logit) + pull @ (weights - _PRIORS) / 2
        return float(loss) / len(truth), (parts.T @ (counted * (expit(logit) - truth)) + pull) / len(truth)

    found = minimize(objective, _PRIORS, jac=True, method="L-BFGS-B", bounds=_BOUNDS, options=_PRECISION)
    first, second, shift = found.x.tolist()
    return Blend(linear=first, heads=second, shift=shift)


@torch.no_grad()
def join(
    network: RiskNetwork, models: LinearModels | None, weights: Blend, *, encoding: Encoding, architecture: Architecture
) -> RiskNetwork:
    """Return one network, on the CPU, whose heads' mean is the blended logit.

    The mean of the linear models is a head of its own: its first unit is the logit and its second the negative of it,
    which together pass through ReLU unchanged.

    Args:
        network: The trained heads.
        models: The linear models that the heads' folds were predicted with, or None.
        weights: How much each part counts.
        encoding: The network's encoding.
        architecture: The network's architecture; its hidden layers have at least two units if there are linear models.
    """
    if models is None or not weights.linear:
        joined, heads = network.cpu(), architecture.heads
    else:
        heads = architecture.heads + 1
        joined = RiskNetwork(encoding, replace(architecture, heads=heads))
        for kept, trained in zip(joined.parameters(), network.cpu().parameters(), strict=True):
            kept.zero_()
            kept[:-1] = trained
        _write_linear(joined, models.weight.mean(0), models.bias.mean(0), scale=weights.linear * heads)
    for parameter in joined.output.parameters():
        parameter[: architecture.heads] *= weights.heads * heads / architecture.heads
    joined.output.bias.add_(weights.shift)
    return joined


def _write_linear(network: RiskNetwork, weight: Tensor, bias: Tensor, *, scale: float) -> None:
    """Make the network's last head, whose weights are zero, a linear model times `scale`.

    Its units rise and fall in turn, so they take the model's directions (see `monotone`).
    """
    first, *further = (layer for layer in network.layers if isinstance(layer, PackedLinear))
    signs = torch.tensor([1.0, -1.0])
    unbounded(first)[-1, :, :2] = weight.cpu()[:, None] * signs
    first.bias[-1, 0, :2] = bias.cpu() * signs
    for layer in further:
        unbounded(layer)[-1, :2, :2] = torch.eye(2)
    unbounded(network.output)[-1, :2, 0] = signs * scale
