"""AdamW with PyTorch's fused step, but without its optimizer class, and a moving average of what it trains."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
# The average forgets as fast as one over the last so many steps, and of earlier ones knows only half.
_AVERAGED_STEPS = 50


class FusedAdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    `torch.optim.AdamW` takes bit-identical steps, but creating it imports PyTorch's compiler, which takes as long as
    training on a small file.

    The moving average of the parameters (Polyak and Juditsky, 1992) is what training stops by and keeps: in the middle
    of the schedule, the rate is still high, and single steps are off in one direction or the other.

    Attributes:
        learning_rate: Learning rate of the next step.
    """

    def __init__(self, parameters: Sequence[Tensor], averages: Sequence[Tensor], *, weight_decay: float) -> None:
        """Take the parameters to update, and tensors of the same shapes to keep their moving averages in."""
        self.learning_rate = 0.0
        self._parameters = list(parameters)
        self._averages = [average.detach() for average in averages]
        self._taken = 0
        self._weight_decay = weight_decay
        self._means = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._steps = [torch.zeros((), device=parameter.device) for parameter in self._parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Update the parameters, all of which need a gradient, and clear their gradients."""
        adamw(
            self._parameters,
            [parameter.grad for parameter in self._parameters if parameter.grad is not None],
            self._means,
            self._squares,
            [],
            self._steps,
            fused=True,
            amsgrad=False,
            maximize=False,
            lr=self.learning_rate,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            eps=_EPSILON,
            weight_decay=self._weight_decay,
        )
        self._taken += 1
        share = max(1 / _AVERAGED_STEPS, 2 / (self._taken + 1))
        for average, parameter in zip(self._averages, self._parameters, strict=True):
            average.lerp_(parameter, share)
            parameter.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the state that later steps depend on, besides the parameters."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps, "averages": self._averages}

    def load_state_dict(self, state: Mapping[str, list[Tensor]]) -> None:
        """Restore a state that `state_dict` returned."""
        self._means, self._squares, self._steps = state["means"], state["squares"], state["steps"]
        self._taken = int(self._steps[0])
        for average, saved in zip(self._averages, state["averages"], strict=True):
            average.copy_(saved)
