"""The trained network rewritten for serving: the same function, with all that no row changes worked out once."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.network import CLIPPED_AT, CalibratedNetwork, Encoder, PackedLinear


class FoldedNetwork(nn.Module):
    """A calibrated network with encoder, first layer, mean and calibration folded into fewer and smaller steps.

    A category's code times the first layer is a row of a table, so the codes are never made. A clipped z-score and a
    bin's code are both ramps from 0 to 1 in one number. All heads' first layers are one matrix; slope and mean are part
    of the last weights. A row then costs half the steps and three quarters of the weights.
    """

    def __init__(self, calibrated: CalibratedNetwork) -> None:
        super().__init__()
        network = calibrated.network
        first, *self.hidden = (layer for layer in network.layers if isinstance(layer, PackedLinear))
        self.heads = network.heads
        self.numeric_features = network.encoder.numeric_features
        self.categorical_features = network.encoder.categorical_features
        self._fold_first(network.encoder, _wide(first.weight), _wide(first.bias)[0])
        slope = calibrated.get_buffer("slope").double()
        last, bias = network.output.weight.detach().double(), network.output.bias.detach().double()
        self.register_buffer("last", (last * slope / self.heads).float())
        self.register_buffer("shift", (bias.mean() * slope + calibrated.get_buffer("intercept")).float())

    def _fold_first(self, encoder: Encoder, weight: Tensor, bias: Tensor) -> None:
        """Take the first layer's weights, float64 [encoder.out_features, heads * hidden], and its biases."""
        mean, scale = encoder.get_buffer("mean"), encoder.get_buffer("scale")
        numeric, bins = self.numeric_features, len(encoder.get_buffer("lower"))
        scores, pieces, codes = torch.split(weight, [numeric, bins, len(weight) - numeric - bins])
        # clip(z) is a ramp of height 2 * CLIPPED_AT, less CLIPPED_AT.
        bias = bias - CLIPPED_AT * scores.sum(0)
        self.register_buffer("column", torch.cat([torch.arange(numeric), encoder.get_buffer("column")]))
        self.register_buffer("start", torch.cat([mean - CLIPPED_AT * scale, encoder.get_buffer("lower")]))
        self.register_buffer("width", torch.cat([2 * CLIPPED_AT * scale, encoder.get_buffer("width")]))
        self.register_buffer("ramps", torch.cat([2 * CLIPPED_AT * scores, pieces]).float())
        tables = [encoder.get_buffer(f"codes_{index}").double() for index in range(self.categorical_features)]
        parts = torch.split(codes, [table.shape[1] for table in tables])
        rows = [table @ part for table, part in zip(tables, parts, strict=True)]
        # Every row takes one line of each feature's table: the bias goes with the first.
        rows = [rows[0] + bias, *rows[1:]] if rows else [bias[None]]
        sizes = torch.tensor([0, *(len(table) for table in tables[:-1])])
        self.register_buffer("offset", sizes.cumsum(0))
        self.register_buffer("table", torch.cat(rows).float())

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        """Probability of default, float32 [N], of float32 [N, numeric] and int64 [N, categorical]."""
        units = self.get_buffer("table")
        if self.categorical_features:
            units = functional.embedding(categorical + self.get_buffer("offset"), units).sum(1)
        if self.numeric_features:
            spread = numeric.index_select(1, self.get_buffer("column"))
            ramps = ((spread - self.get_buffer("start")) / self.get_buffer("width")).clamp(0.0, 1.0)
            units = torch.addmm(units, ramps, self.get_buffer("ramps"))
        units = units.relu().reshape(-1, self.heads, units.shape[1] // self.heads).transpose(0, 1)
        for layer in self.hidden:
            units = (torch.matmul(units, layer.weight) + layer.bias).relu()
        logit = torch.matmul(units, self.get_buffer("last")).sum((0, 2)) + self.get_buffer("shift")
        return torch.sigmoid(logit)


def _wide(weights: Tensor) -> Tensor:
    """All heads side by side, float64 [in, heads * out]; from float32 [heads, in, out]."""
    return weights.detach().double().transpose(0, 1).flatten(1)
