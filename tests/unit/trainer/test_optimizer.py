"""The optimizer compared with PyTorch's own."""

from __future__ import annotations

import torch

from trainer.learning.optimizer import FusedAdamW


def descend(parameters: list[torch.Tensor], seed: int) -> None:
    torch.manual_seed(seed)
    target = torch.randn(3, 4)
    (parameters[0] * parameters[1] - target).square().sum().backward()  # type: ignore[no-untyped-call]


def start() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(3, 4, requires_grad=True), torch.randn(4, requires_grad=True)]


def test_its_steps_are_bit_identical_to_pytorchs_even_after_a_resume() -> None:
    theirs, ours = start(), start()
    reference = torch.optim.AdamW(theirs, weight_decay=0.1, fused=True)
    optimizer = FusedAdamW(ours, weight_decay=0.1)
    for step in range(6):
        rate = 0.1 / (step + 1)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        descend(theirs, step)
        reference.step()
        if step == 3:
            state = optimizer.state_dict()
            optimizer = FusedAdamW(ours, weight_decay=0.1)
            optimizer.load_state_dict(state)
        optimizer.learning_rate = rate
        descend(ours, step)
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    assert [parameter.grad for parameter in ours] == [None, None]
