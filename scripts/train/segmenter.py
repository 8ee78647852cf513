"""Train a small network that masks one person, on scenes of dressed people alone.

    python -m scripts.train.segmenter WORK --scenes 3000 --photographs FOLDER
    python -m scripts.train.segmenter WORK --data data1 data2 --samples 100000 --device cuda

Scenes are drawn into WORK/scenes (`bodyfit scene` with three people at most, 320 px), or read from folders of it. The
landmark network looks at everybody once, for the coarse mask that the input has. Then samples are made, each other than
all before, and learnt from; WORK/checkpoint.pt is written every so often, and a run that was stopped goes on from it.
In the end WORK/person_mask.onnx is written, with the mean of the weights along the way (`pip install ".[train]"`;
without it the same command writes the network later).

A thousand scenes take about four minutes of a core, ten thousand samples about five (bfloat16, AVX512-BF16).
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.runtime.atomic import write_atomically
from bodyfit.scenes import SceneConfig, write_scenes
from scripts.train.checkpoints import average_weights, export_network, rate_factor, resume
from scripts.train.masks.augment import Sampler
from scripts.train.masks.inputs import CHANNELS, SIDE
from scripts.train.masks.network import MaskNetwork
from scripts.train.masks.people import Person, look_at, read_people

_WARM = 0.05
"""The share of the steps over which the learning rate rises."""
_DECAY = 0.998
"""Of the mean of weights, a step."""
_CHECKED = 32
"""Most people that the network is checked on along the way."""
_AHEAD = 3
"""Batches that are made ahead."""
_HELD_OUT = 20
"""One of so many people is not learnt from."""


def main() -> None:
    """Draw or read scenes, train, and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for scenes, checkpoint and network")
    parser.add_argument("--data", type=Path, nargs="+", help="folders of `bodyfit scene` to read in place of drawing")
    parser.add_argument("--scenes", type=int, default=3000, help="how many to draw where none are given")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs without people, for backgrounds")
    parser.add_argument("--samples", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=3e-3, help="the greatest learning rate")
    parser.add_argument("--every", type=int, default=100, help="steps from one checkpoint to the next")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    people = read_people(args.data or [drawn(args)])
    look_at(people, args.seed, lambda n: print(f"{n} of {len(people)} looked at") if n % 500 == 0 else None)
    unseen = people[::_HELD_OUT]
    learnt = [person for i, person in enumerate(people) if i % _HELD_OUT]
    if not learnt:
        parser.error(f"two people are needed, there are {len(people)}")
    print(f"{len(learnt)} people to learn from, {len(unseen)} held out", flush=True)
    network = train(args, learnt, unseen)
    export(network, args.work / "person_mask.onnx")


def drawn(args: argparse.Namespace) -> Path:
    """Draw the scenes that are not there yet."""
    folder = args.work / "scenes"
    config = SceneConfig(people=(1, 3), size=320, backgrounds=args.photographs)
    write_scenes(config, args.scenes, folder, seed=args.seed, labels=("masks",), resume=True)
    return folder


def train(args: argparse.Namespace, learnt: list[Person], unseen: list[Person]) -> MaskNetwork:
    """Train, or go on; returns the network with the mean weights."""
    torch.manual_seed(args.seed)
    network = MaskNetwork().to(args.device, memory_format=torch.channels_last)
    mean = MaskNetwork().to(args.device)
    mean.load_state_dict(network.state_dict())
    steps = max(args.samples // args.batch, 1)
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step / steps, _WARM))
    parts = {"network": network, "mean": mean, "optimiser": optimiser, "schedule": schedule}
    first = resume(args.work / "checkpoint.pt", _settings(args), parts, args.device)
    network.train()
    losses: list[float] = []
    for step, (inputs, targets) in _batches(Sampler(learnt, args.photographs, args.seed), args, first, steps):
        with torch.autocast(torch.device(args.device).type, torch.bfloat16):
            logits = network(inputs.contiguous(memory_format=torch.channels_last))
        loss = mask_loss(logits.float(), targets)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        average_weights(mean, network, min(_DECAY, 1 - 5 / (step + 6)))
        losses.append(loss.item())
        if (step + 1) % args.every == 0 or step + 1 == steps:
            state = {name: part.state_dict() for name, part in parts.items()}
            with write_atomically(args.work / "checkpoint.pt") as temporary:
                torch.save({"step": step + 1, "settings": _settings(args), **state}, temporary)
            scores = validate(mean, unseen, args)
            print(f"step {step + 1} of {steps}: loss {np.mean(losses):.4f}; held out {scores}", flush=True)
            losses = []
    return mean


def mask_loss(logits: Float[Tensor, "B 2 S S"], targets: Float[Tensor, "B 2 S S"]) -> Float[Tensor, ""]:
    """Cross-entropy, three times as dear at the person's edge, and the overlap that is missing (Dice)."""
    edge = torch.nn.functional.max_pool2d(targets, 5, 1, 2) + torch.nn.functional.max_pool2d(-targets, 5, 1, 2)
    cross = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    cross = (cross * (1 + 2 * edge)).mean((0, 2, 3))
    found = logits.sigmoid()
    common, both = (found * targets).sum((2, 3)), (found + targets).sum((2, 3))
    missing = (1 - (2 * common + 50) / (both + 50)).mean(0)
    weights = torch.tensor([1.0, 0.3], device=logits.device)
    return (weights * (cross + 0.5 * missing)).sum()


@torch.no_grad()
def validate(network: MaskNetwork, people: list[Person], args: argparse.Namespace) -> str:
    """Describe the overlap on held-out people as drawn, with the coarse mask and without it."""
    network.eval()
    sampler, scores = Sampler(people, None, args.seed), []
    for i in range(min(len(people), _CHECKED)):
        inputs, targets = (torch.from_numpy(part)[None].to(args.device) for part in sampler.sample(i, plain=True))
        truth = targets[0, 0] > 0.5
        found = [network(inputs)[0, 0] > 0]
        coarse = inputs[0, 5] > 0.5
        inputs[:, 5] = 0
        found += [network(inputs)[0, 0] > 0, coarse]
        scores.append([float((one & truth).sum() / (one | truth).sum().clamp(min=1)) for one in found])
    with_it, without, coarse = np.mean(scores, axis=0)
    return f"IoU {with_it:.3f}, without the coarse mask {without:.3f}; of the coarse mask {coarse:.3f}"


def export(network: MaskNetwork, path: Path) -> None:
    """Write the network for onnxruntime: input (B, 6, S, S), output (B, 2, S, S), logits."""
    export_network(network, path, (torch.zeros(1, CHANNELS, SIDE, SIDE),), ["input"], "masks")


def _batches(
    sampler: Sampler, args: argparse.Namespace, first: int, steps: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield the steps that are left, each with its batch; another thread makes the next ones meanwhile."""

    def made(step: int) -> list[np.ndarray]:
        numbers = range(step * args.batch, (step + 1) * args.batch)
        return [np.stack(parts) for parts in zip(*(sampler.sample(number) for number in numbers), strict=True)]

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(made, step) for step in range(first, min(first + _AHEAD, steps)))
        for step in range(first, steps):
            inputs, targets = (torch.from_numpy(part).to(args.device) for part in waiting.popleft().result())
            if step + _AHEAD < steps:
                waiting.append(pool.submit(made, step + _AHEAD))
            yield step, (inputs, targets)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("samples", "batch", "rate", "seed")}


if __name__ == "__main__":
    main()
