"""What training runs share: the rate along the way, the mean of weights, checkpoints, and the network's file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bodyfit.runtime.atomic import write_atomically

__all__ = ["average_weights", "export_network", "rate_factor", "resume"]


def rate_factor(done: float, warm: float) -> float:
    """Compute the learning rate's factor: a rise over the share `warm` of the steps, then a fall along a cosine."""
    return min(1.0, done / warm + 0.01) * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def average_weights(mean: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """Move the mean of the weights, and of the statistics, a little towards those of now."""
    now = network.state_dict()
    for name, value in mean.state_dict().items():
        if value.is_floating_point():
            value.lerp_(now[name], 1 - decay)
        else:
            value.copy_(now[name])


def resume(path: Path, settings: dict[str, Any], parts: dict[str, Any], device: str) -> int:
    """Load a checkpoint, if there is one, and return the step to go on with. Stops for one of other settings."""
    if not path.is_file():
        return 0
    state = torch.load(path, map_location=device, weights_only=True)
    if state["settings"] != settings:
        raise SystemExit(f"{path}: made with {state['settings']}; give the same, or another folder")
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state["step"]


def export_network(
    network: torch.nn.Module,
    path: Path,
    example: tuple[Tensor, ...],
    inputs: Sequence[str],
    output: str,
    *,
    people: bool = True,
) -> None:
    """Write a network for onnxruntime, of inputs like `example`; `people`: the first axis of all has any length."""
    axes = {name: {0: "people"} for name in (*inputs, output)} if people else None
    with write_atomically(path) as temporary:
        torch.onnx.export(
            network.cpu().eval(),
            example,
            str(temporary),
            input_names=list(inputs),
            output_names=[output],
            dynamic_axes=axes,
            opset_version=17,
            dynamo=False,
        )
    print(f"{path}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")
