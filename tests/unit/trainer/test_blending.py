from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from trainer.data.inputs import CategoryInput, Inputs
from trainer.export.onnx_graph import export_onnx
from trainer.learning.blending import ONLY_HEADS, Blend, blend, join
from trainer.learning.linear import LinearModels
from trainer.learning.network import Architecture, CalibratedNetwork, Encoding, RiskNetwork

INPUTS = Inputs(missing=(False, True), categories=(CategoryInput(3), CategoryInput(2, missing=True)))


def outcomes(logit: torch.Tensor, seed: int = 99) -> torch.Tensor:
    return (torch.rand(len(logit), generator=torch.Generator().manual_seed(seed)) < torch.sigmoid(logit)).float()


def normal(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(seed))


def test_the_part_that_predicts_gets_all_weight() -> None:
    truth, noise = 2 * normal(20_000, 0), normal(20_000, 1)
    target = outcomes(truth)
    for found, right, wrong in (
        (blend(truth, noise, target), "linear", "heads"),
        (blend(noise, truth, target), "heads", "linear"),
    ):
        assert getattr(found, right) == pytest.approx(1, abs=0.1)
        assert getattr(found, wrong) == pytest.approx(0, abs=0.05)


def test_parts_that_err_differently_share_the_weight() -> None:
    truth = 2 * normal(20_000, 0)
    linear, heads = truth + normal(20_000, 1), truth + normal(20_000, 2)
    target = outcomes(truth)
    found = blend(linear, heads, target)
    assert found.linear == pytest.approx(found.heads, abs=0.1)
    loss = torch.nn.functional.binary_cross_entropy_with_logits
    assert loss(found.apply(linear, heads), target) < min(loss(linear, target), loss(heads, target))


def test_no_weight_is_negative_even_if_a_part_ranks_the_wrong_way() -> None:
    truth = normal(5_000, 0)
    found = blend(truth, truth + 0.5 * normal(5_000, 1), outcomes(-truth))
    assert found.linear == found.heads == 0


def test_an_offset_that_both_parts_have_is_removed() -> None:
    truth = normal(20_000, 0)
    found = blend(truth + 3, truth + 3, outcomes(truth))
    assert found.apply(torch.tensor([3.0]), torch.tensor([3.0])).item() == pytest.approx(0, abs=0.1)


def encoding_of(inputs: Inputs) -> Encoding:
    numeric = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    return Encoding.fit(numeric, inputs, bins=4)


@pytest.fixture
def encoding() -> Encoding:
    return encoding_of(INPUTS)


@pytest.mark.parametrize("directions", [(), (1, -1)], ids=["free", "monotonic"])
@pytest.mark.parametrize("hidden", [(4,), (6, 2), (5, 4, 3)])
@pytest.mark.parametrize("weights", [Blend(0.7, 0.4, -1.5), Blend(1.2, 0.0, 0.3), Blend(0.0, 0.9, 0.1), ONLY_HEADS])
def test_the_joined_network_and_its_graph_give_the_blended_logit(
    directions: tuple[int, ...], hidden: tuple[int, ...], weights: Blend, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoding = encoding_of(replace(INPUTS, directions=directions))
    architecture = Architecture(heads=3, hidden=hidden, bins=4, dropout=0.0)
    network = RiskNetwork(encoding, architecture).eval()
    columns = network.encoder.out_features
    signs = network.encoder.directions
    weight = torch.randn(5, columns)
    models = LinearModels(torch.where(signs == 0, weight, weight.abs() * signs), torch.randn(5), penalty=1.0)
    numeric, categorical = torch.randn(50, 2), torch.randint(0, 2, (50, 2))
    numeric[:10, 1] = torch.nan
    with torch.no_grad():
        heads = network(numeric, categorical).mean(0)
        linear = network.encoder(numeric, categorical) @ models.weight.mean(0) + models.bias.mean(0)
        joined = join(network, models, weights, encoding=encoding, architecture=architecture).eval()
        torch.testing.assert_close(
            joined(numeric, categorical).mean(0), weights.apply(linear, heads), atol=1e-5, rtol=1e-5
        )
    assert joined.heads == (4 if weights.linear else 3)
    calibrated = CalibratedNetwork(joined, slope=1.0, intercept=0.0, floor=0.0, ceiling=1.0).eval()
    export_onnx(calibrated, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (served,) = session.run(None, {"numeric": numeric.numpy(), "categorical": categorical.numpy()})
    assert served == pytest.approx(torch.sigmoid(weights.apply(linear, heads)).numpy(), abs=1e-5)


def test_without_linear_models_the_heads_are_the_network(encoding: Encoding) -> None:
    architecture = Architecture(heads=2, hidden=(1,), bins=4, dropout=0.0)
    network = RiskNetwork(encoding, architecture)
    before = [parameter.detach().clone() for parameter in network.parameters()]
    joined = join(network, None, ONLY_HEADS, encoding=encoding, architecture=architecture)
    assert all(torch.equal(a, b) for a, b in zip(before, joined.parameters(), strict=True))
