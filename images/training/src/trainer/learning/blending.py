"""The heads and the linear models as one network, each weighted by what it adds to the prediction of unseen rows."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from trainer.learning.linear import LinearModels
from trainer.learning.monotone import unbounded
from trainer.learning.network import Architecture, Encoding, PackedLinear, RiskNetwork

# More rows than this do not make two weights better known.
_ROWS = 20_000
_STEPS = 30
_TOLERANCE = 1e-7
# Before any row is seen, both count for one half; this is worth a few rows.
_PRIOR, _PRIOR_STRENGTH = 0.5, 1.0
_TINY = 1e-6


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
    parts = torch.stack([linear[every], heads[every], torch.ones_like(target[every])], dim=1).double()
    truth = target[every].double()
    counted = torch.ones_like(truth) if weight is None else weight[every].double()
    both = _regress(parts, truth, counted, torch.tensor([True, True, True]))
    if (both[:2] < 0).any():
        one_of_them = ([True, False, True], [False, True, True])
        alone = [_regress(parts, truth, counted, torch.tensor(used)) for used in one_of_them]
        losses = [binary_cross_entropy_with_logits(parts @ found, truth, weight=counted) for found in alone]
        both = alone[0] if losses[0] <= losses[1] else alone[1]
    first, second, shift = both.tolist()
    return Blend(linear=max(first, 0.0), heads=max(second, 0.0), shift=shift)


def _regress(parts: Tensor, target: Tensor, weight: Tensor, used: Tensor) -> Tensor:
    """Fit a logistic regression on some of the columns by Newton's method; the others get the weight zero."""
    used = used.to(parts.device)
    columns = parts * used
    prior = parts.new_tensor([_PRIOR, _PRIOR, 0.0]) * used
    strength = parts.new_tensor([_PRIOR_STRENGTH, _PRIOR_STRENGTH, _TINY])

    def objective(weights: Tensor) -> Tensor:
        loss = binary_cross_entropy_with_logits(columns @ weights, target, weight=weight, reduction="sum")
        return loss + 0.5 * strength @ (weights - prior).square()

    found, lowest = prior, objective(prior)
    for _ in range(_STEPS):
        probability = torch.sigmoid(columns @ found)
        gradient = columns.T @ (weight * (probability - target)) + strength * (found - prior)
        curvature = weight * probability * (1 - probability)
        hessian = columns.T @ (columns * curvature[:, None]) + torch.diag(strength)
        step = torch.linalg.solve(hessian, gradient)
        # A step from far away can be too long.
        while not (reached := objective(found - step)) <= lowest and float(step.abs().max()) > _TOLERANCE:
            step = step / 2
        if not lowest - reached > _TOLERANCE:
            break
        found, lowest = found - step, reached
    return found


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
