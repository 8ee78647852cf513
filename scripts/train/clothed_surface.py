"""Train the network that moves a body's surface out to clothes and hair by one picture, assets/clothed/surface.onnx.

    python -m scripts.train.clothed.people CLIPS [CLIPS ...] -o FOLDER
    python -m scripts.train.clothed.fits FOLDER
    python -m scripts.train.clothed_surface FOLDER -o assets/clothed/surface.onnx [--steps 2000] [--device cpu]

FOLDER holds drawn people (`scripts/train/clothed/people.py`) and fits to them (`scripts/train/clothed/fits.py`; without
any, bodies err a little at random); its held-out ones are measured along the way. Each step's batch is made by its own
seed. FOLDER/checkpoint.pt is written every so often, and a run that was stopped goes on from it. In the end the
network is written with the mean of the weights along the way (`pip install ".[train]"`; without it the same command
writes the network later).
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bodyfit.clothed.inputs import CHANNELS, SIDE, VERTEX_FEATURES
from bodyfit.clothed.mesh import SurfaceMesh, surface_mesh
from bodyfit.runtime.atomic import write_atomically
from scripts.train.checkpoints import average_weights, export_network, rate_factor, resume
from scripts.train.clothed.batches import Batch, Kind, Sampler, read_shards
from scripts.train.clothed.losses import SurfaceLoss
from scripts.train.clothed.network import ClothedNetwork

__all__ = ["export", "main", "measure", "train"]

_DECAY = 0.995
"""Of the mean of weights, a step."""
_CHECKED = 4
"""Batches of held-out people that are measured along the way."""
_WARM = 0.03
"""Share of the steps over which the learning rate rises."""


def main() -> None:
    """Train, and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder of drawn people, and of the checkpoint")
    parser.add_argument("-o", "--out", type=Path, default=Path("assets/clothed/surface.onnx"))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--until", type=int, help="stop after this step for now")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3, help="the greatest learning rate")
    parser.add_argument("--every", type=int, default=100, help="steps from one checkpoint to the next")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    shards = sorted(args.data.glob("train-*.npz"))
    if not shards:
        parser.error(f"{args.data}: no drawn people in it; draw some by scripts.train.clothed.people")
    export(train(args, shards), args.out)


def train(args: argparse.Namespace, shards: list[Path]) -> ClothedNetwork:
    """Train, or go on; returns the network with the mean weights."""
    torch.manual_seed(args.seed)
    mesh, device = surface_mesh(), torch.device(args.device)
    network, mean = ClothedNetwork(mesh).to(device), ClothedNetwork(mesh).to(device)
    mean.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step / args.steps, _WARM))
    parts = {"network": network, "mean": mean, "optimiser": optimiser, "schedule": schedule}
    first = resume(args.data / "checkpoint.pt", _settings(args), parts, args.device)
    last = args.steps if args.until is None else min(args.until, args.steps)
    if first >= last:
        return mean
    sampler, loss_of = Sampler(read_shards(shards), mesh, args.seed), SurfaceLoss(mesh, device)
    held = Sampler(read_shards([args.data / "held.npz"]), mesh, args.seed)
    print(f"{len(sampler)} people to learn from, {sampler.fitted} with fits; {len(held)} held out", flush=True)
    sums: dict[str, list[float]] = {}
    for step in range(first, last):
        network.train()
        batch = moved_to(sampler.batch(step, args.batch), device)
        with torch.autocast(device.type, torch.bfloat16):
            output = network(batch.image, batch.points, batch.features, batch.lens)
        loss, terms = loss_of(output, batch, np.random.default_rng([args.seed, 79, step]))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average_weights(mean, network, min(_DECAY, 1 - 5 / (step + 6)))
        for name, term in terms.items():
            sums.setdefault(name, []).append(term)
        if (step + 1) % args.every == 0 or step + 1 == last:
            state = {name: part.state_dict() for name, part in parts.items()}
            with write_atomically(args.data / "checkpoint.pt") as temporary:
                torch.save({"step": step + 1, "settings": _settings(args), **state}, temporary)
            losses = ", ".join(f"{name} {np.mean(some):.3f}" for name, some in sums.items())
            print(f"step {step + 1} of {args.steps}: {losses}; held out {measure(mean, held, mesh, args)}", flush=True)
            sums = {}
    return mean


def moved_to(batch: Batch, device: torch.device) -> Batch:
    """Move a batch to a device."""
    if device.type == "cpu":
        return batch
    tensors = {name: value.to(device) for name, value in vars(batch).items() if isinstance(value, torch.Tensor)}
    return replace(batch, **tensors)


@torch.no_grad()
def measure(network: ClothedNetwork, held: Sampler, mesh: SurfaceMesh, args: argparse.Namespace) -> str:
    """Describe distances on people in clothes never learned from, moved and naked, over exact bodies and fits."""
    network.eval()
    loss_of = SurfaceLoss(mesh, torch.device(args.device))
    words = []
    kinds: tuple[Kind, ...] = ("exact", "fitted") if held.fitted else ("exact",)
    for kind in kinds:
        scores: list[list[float]] = []
        for k in range(_CHECKED):
            batch = moved_to(held.batch(k, args.batch, only=kind), torch.device(args.device))
            move = network(batch.image, batch.points, batch.features, batch.lens)[..., :4]
            terms = [loss_of.terms(one, batch, np.random.default_rng(k)) for one in (move, torch.zeros_like(move))]
            scores.append([float(t[name]) for name in ("there", "back") for t in terms])
        there, there_naked, back, back_naked = np.mean(scores, axis=0)
        share = (there + back) / (there_naked + back_naked)
        words.append(f"{kind}: {there:.2f} and {back:.2f}, naked {there_naked:.2f} and {back_naked:.2f} ({share:.0%})")
    return "; ".join(words)


def export(network: ClothedNetwork, path: Path) -> None:
    """Write the network for onnxruntime."""
    count = network.own.shape[0]
    example = (
        torch.zeros(1, CHANNELS, SIDE, SIDE),
        torch.tensor([0.0, 0.0, 4.0]).expand(1, count, 3).contiguous(),
        torch.zeros(1, count, VERTEX_FEATURES),
        torch.tensor([[4.0, 0.0, 0.0]]),
    )
    names = ["image", "points", "features", "lens"]
    path.parent.mkdir(parents=True, exist_ok=True)
    export_network(network, path, example, names, "moves")


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(args, name) for name in ("steps", "batch", "rate", "seed")}


if __name__ == "__main__":
    main()
