"""Weights of fixed signs: a network that is monotonic in some of its inputs whatever it learns.

Every column and every hidden unit has a direction: it only rises (1) or only falls (-1) as the constrained features
rise, or it does not depend on them (0). A weight between two directions keeps the sign of their product, and a unit
without a direction has no weight on what has one; ReLU keeps a direction. So the logit, which is a unit that rises,
never falls in any constrained feature, while the other features are as free as before: they reach the units without a
direction, and the others through weights of any sign. Units that fall matter as much as those that rise: from ReLU,
which is convex, weights of one sign alone make only convex functions, and the falling units add the concave ones
(Runje and Shankaranarayana, "Constrained Monotonic Neural Networks", 2023, do it by two more activation functions,
which would cost the exported graph more nodes).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized, register_parametrization

if TYPE_CHECKING:
    from trainer.learning.network import PackedLinear

# One unit in so many has no direction.
_FREE_EVERY = 4
# What a column that rises from 0 to 1 is on average.
_USUAL = 0.5


class SignedWeights(nn.Module):
    """Bounds each weight by zero on the side that the directions of its two ends forbid."""

    def __init__(self, inputs: Tensor, outputs: Tensor) -> None:
        """Take the directions of a layer's inputs and of its outputs, [in] and [out]."""
        super().__init__()
        free, sign = (inputs == 0)[:, None], torch.outer(inputs, outputs)
        self.register_buffer("low", torch.where(free | (sign < 0), -torch.inf, 0.0))
        self.register_buffer("high", torch.where(free | (sign > 0), torch.inf, 0.0))

    def forward(self, weight: Tensor) -> Tensor:
        """Return the layer's weights, float32 [heads, in, out]."""
        bounded = _Bounded.apply(weight, self.get_buffer("low"), self.get_buffer("high"))  # type: ignore[no-untyped-call]
        return cast("Tensor", bounded)


class _Bounded(torch.autograd.Function):
    """A clamp whose gradient leads back from beyond a bound, where that of `torch.clamp` is zero for ever."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, low: Tensor, high: Tensor) -> Tensor:  # noqa: ANN401 - PyTorch's context
        ctx.save_for_backward(weight, low, high)
        return torch.clamp(weight, low, high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401 - PyTorch's context
        weight, low, high = ctx.saved_tensors
        outward = ((weight <= low) & (gradients[0] > 0)) | ((weight >= high) & (gradients[0] < 0))
        return gradients[0].masked_fill(outward, 0.0), None, None


def constrain(layers: Sequence[PackedLinear], directions: Tensor) -> None:
    """Make a network's logit never fall in columns of direction 1 and never rise in those of direction -1.

    Args:
        layers: All of the network's layers in order; the last one has the logit as its only output.
        directions: 1, -1 or 0 for each column of the first layer's input, float32 [in].
    """
    for layer in layers[:-1]:
        directions = _constrain(layer, directions, _directions_of(layer.bias.shape[2]))
    _constrain(layers[-1], directions, torch.ones(1))


def unbounded(layer: PackedLinear) -> Tensor:
    """Return the weights that a layer learns, of which it uses what is within the bounds, if there are any."""
    if not is_parametrized(layer, "weight"):
        return layer.weight
    bounded = cast("ParametrizationList", cast("nn.ModuleDict", layer.parametrizations)["weight"])
    return bounded.original


def _directions_of(units: int) -> Tensor:
    """Return the directions of a hidden layer's units: some none, the others rising and falling in turn, [units]."""
    position = torch.arange(units)
    turn = 1 - 2.0 * ((position - position // _FREE_EVERY) % 2)
    return torch.where(position % _FREE_EVERY == _FREE_EVERY - 1, 0.0, turn)


def _constrain(layer: PackedLinear, inputs: Tensor, outputs: Tensor) -> Tensor:
    directed, sign = (inputs != 0)[:, None], torch.outer(inputs, outputs)
    with torch.no_grad():
        # Within the bounds from the start.
        layer.weight.copy_(torch.where(directed, layer.weight.abs() * sign, layer.weight))
        # Weights of one sign do not cancel out: without this, the units that fall would be zero for all rows.
        layer.bias.sub_(_USUAL * (layer.weight * directed).sum(dim=1, keepdim=True))
    register_parametrization(layer, "weight", SignedWeights(inputs, outputs))
    return outputs
