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
    averages = [torch.zeros_like(parameter) for parameter in ours]
    optimizer = FusedAdamW(ours, averages, weight_decay=0.1)
    for step in range(6):
        rate = 0.1 / (step + 1)
        reference.param_groups[0]["lr"] = rate
        reference.zero_grad()
        descend(theirs, step)
        reference.step()
        if step == 3:
            state = optimizer.state_dict()
            optimizer = FusedAdamW(ours, averages, weight_decay=0.1)
            optimizer.load_state_dict(state)
        optimizer.learning_rate = rate
        descend(ours, step)
        optimizer.step()
        assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))
    assert [parameter.grad for parameter in ours] == [None, None]


def test_the_average_follows_the_parameters_and_smooths_their_steps() -> None:
    parameter = torch.zeros(2, requires_grad=True)
    average = torch.full((2,), 9.0)
    optimizer = FusedAdamW([parameter], [average], weight_decay=0.0)
    optimizer.learning_rate = 1.0
    path = []
    for step in range(400):
        # The first coordinate swings, the second moves away steadily.
        (parameter * torch.tensor([(-1.0) ** step, -1.0])).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        path.append(parameter.detach().clone())
        if step == 0:
            assert torch.equal(average, path[0])
    swings = torch.stack(path)[-50:, 0]
    assert (average[0] - swings.mean()).abs() < (swings.max() - swings.min()) / 20
    # Of a steady motion, an average over fifty steps is about as many behind.
    assert path[-60][1] < average[1] < path[-40][1]
