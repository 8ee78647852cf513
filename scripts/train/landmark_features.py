"""The first stages of the shipped landmark network in torch, for a perceptual loss (`pip install ".[train]"`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from bodyfit.body.assets import asset_path

__all__ = ["LandmarkFeatures", "perceptual_loss"]

STAGES = ("fine", 24, 32)
"""The maps that are compared: the network's output `fine` at half of the resolution, then the last ones with 24 and 32
channels that its residual sums give, at a quarter and an eighth."""


class LandmarkFeatures(nn.Module):
    """Runs the nodes of pose_landmarks.onnx that `STAGES` need, differentiably; weights are fixed."""

    def __init__(self) -> None:
        super().__init__()
        import onnx
        from onnx import numpy_helper

        graph = onnx.load(str(asset_path("detector", "pose_landmarks.onnx"))).graph
        values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
        self._steps: list[tuple[str, str, list[str], dict[str, Any]]] = []
        self._outputs: list[str] = []
        for node in graph.node:
            if node.op_type == "Cast" and node.input[0] in values:
                values[node.output[0]] = values[node.input[0]].astype(np.float32)
                continue
            options = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
            self._steps.append((node.op_type, node.output[0], list(node.input), options))
            name, channels = node.output[0], self._channels(node, values)
            if name == STAGES[0] or channels in STAGES[1:]:
                self._outputs.append(name)
            if channels == STAGES[-1]:
                break
        for name in {name for _, _, inputs, _ in self._steps for name in inputs} & values.keys():
            self.register_buffer(f"value_{name}", torch.from_numpy(np.array(values[name])))

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Compute the maps of pictures in [0, 1]."""
        at: dict[str, Tensor] = {"input": pictures.permute(0, 2, 3, 1)}

        def value(name: str) -> Tensor:
            return at[name] if name in at else getattr(self, f"value_{name}")

        for kind, output, names, options in self._steps:
            inputs = [value(name) for name in names if name]
            at[output] = _run(kind, inputs, options)
        return [at[name] for name in self._outputs]

    def _channels(self, node: Any, values: dict[str, np.ndarray]) -> int:
        """Return the channels of a residual sum, 0 for any other node."""
        if node.op_type != "Add":
            return 0
        widths = {name: len(values[i[1]]) for op, name, i, _ in self._steps if op == "Conv" and i[1] in values}
        return max((widths.get(name, 0) for name in node.input), default=0)


def _run(kind: str, inputs: list[Tensor], options: dict[str, Any]) -> Tensor:
    """Run one node. Raises `ValueError` for kinds that the first stages do not have."""
    x, *rest = inputs
    if kind == "Cast":
        return x.float()
    if kind == "Transpose":
        return x.permute(options["perm"])
    if kind == "Pad":
        pads, axes = rest[0].tolist(), x.ndim
        flat = [int(n) for axis in reversed(range(axes)) for n in (pads[axis], pads[axis + axes])]
        return nn.functional.pad(x, flat)
    if kind == "Clip":
        return x.clamp(float(rest[0]), float(rest[1]))
    if kind == "Add":
        return x + rest[0]
    if kind == "Conv":
        top, left, bottom, right = options.get("pads", [0, 0, 0, 0])
        x = nn.functional.pad(x, (left, right, top, bottom))
        bias = rest[1] if len(rest) > 1 else None
        return nn.functional.conv2d(x, rest[0], bias, tuple(options["strides"]), groups=options["group"])
    raise ValueError(f"the landmark network has a {kind} where none was expected")


def perceptual_loss(
    network: LandmarkFeatures, found: Float[Tensor, "B 3 H W"], goal: Float[Tensor, "B 3 H W"]
) -> Float[Tensor, ""]:
    """Compare the features of pictures, scaled to length 1 at each place."""
    pairs = zip(network(found.clamp(0, 1)), network(goal.clamp(0, 1)), strict=True)
    unit = [
        (nn.functional.normalize(a, dim=1, eps=1e-3), nn.functional.normalize(b, dim=1, eps=1e-3)) for a, b in pairs
    ]
    return torch.stack([(a - b).square().sum(1).mean() for a, b in unit]).sum()
