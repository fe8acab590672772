"""AdamW with PyTorch's fused step, but without its optimizer class."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.optim.adamw import adamw

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8


class FusedAdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019).

    `torch.optim.AdamW` takes bit-identical steps, but creating it imports PyTorch's compiler, which takes as long as
    training on a small file.

    Attributes:
        learning_rate: Learning rate of the next step.
    """

    def __init__(self, parameters: Sequence[Tensor], *, weight_decay: float) -> None:
        self.learning_rate = 0.0
        self._parameters = list(parameters)
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
        for parameter in self._parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, list[Tensor]]:
        """Return the state that later steps depend on, besides the parameters."""
        return {"means": self._means, "squares": self._squares, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, list[Tensor]]) -> None:
        """Restore a state that `state_dict` returned."""
        self._means, self._squares, self._steps = state["means"], state["squares"], state["steps"]
