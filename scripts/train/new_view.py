"""Train the network that completes new views, assets/views/refine.onnx, on dressed people alone.

    python -m scripts.train.new_view WORK --clips FOLDER [FOLDER] [--people 1000] [--stop-after draw]
    python -m scripts.train.new_view WORK --adversarial 400      # goes on with a critic: refine_adversarial.onnx
    python -m scripts.train.new_view WORK --perceptual 400       # or with a perceptual loss: refine_perceptual.onnx

People in random outfits, without pieces of `scripts.train.clothed.people.HELD_OUT`, take poses of the clips that are
not held out and are drawn into WORK/people: one photograph and four new views each. Their pixels are lifted to the
clothed surface (to the naked body for some) and splatted, and the network learns to complete the views; what a person's
pictures give is made when it is first needed, and stored in WORK/views. Checkpoints are written every so often; the
same command goes on where it was stopped. In the end WORK/refine.onnx is written, with the mean of the weights along
the way (`pip install ".[train]"`).

A thousand people take about five minutes of a core to draw and nine to make views of, a thousand steps of eight
samples four to five (bfloat16).
"""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bodyfit.images.similarity import box_of, psnr_db, ssim
from bodyfit.novel_views.assemble import VIEW_CHANNELS, Layers, completed
from bodyfit.runtime.atomic import write_atomically
from scripts.bench.inputs.synthetic_people import split
from scripts.train.checkpoints import average_weights, export_network, rate_factor, resume
from scripts.train.landmark_features import LandmarkFeatures, perceptual_loss
from scripts.train.new_views.adversarial import Critic
from scripts.train.new_views.losses import before_colors, view_loss
from scripts.train.new_views.networks import refinement_network
from scripts.train.new_views.people import SIDE, draw_people
from scripts.train.new_views.samples import Samples

_WARM = 0.05
"""The share of the steps over which the learning rate rises."""
_DECAY = 0.998
"""Of the mean of weights, a step."""
_AHEAD = 2
_PERCEPTUAL = 0.5
_FURTHER = 0.5
"""The learning rate of further steps, in parts of the first ones'."""
_HELD_OUT = 24
"""People who are not learnt from, the last ones drawn."""
_SCORED_VIEWS = 4


def main() -> None:
    """Draw people, train the network, and export it."""
    args = arguments().parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    files = drawn(args)
    if args.stop_after == "draw":
        return
    learnt, unseen = files[:-_HELD_OUT] or files, files[-_HELD_OUT:]
    refine = train_views(args, learnt, unseen)
    export(refine, args.work / "refine.onnx")
    for name, steps in (("adversarial", args.adversarial), ("perceptual", args.perceptual)):
        if steps:
            further = train_views(args, learnt, unseen, start=refine, more=name, steps=steps)
            export(further, args.work / f"refine_{name}.onnx")


def arguments() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for people, checkpoints and networks")
    parser.add_argument("--clips", type=Path, nargs="+", help="folders of motion clips in the AMASS layout")
    parser.add_argument("--people", type=int, default=1000)
    parser.add_argument("--view-steps", type=int, default=3000)
    parser.add_argument("--adversarial", type=int, default=0, help="further steps with a critic, to another file")
    parser.add_argument("--perceptual", type=int, default=0, help="further steps with features of the landmark network")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2e-3, help="the greatest learning rate")
    parser.add_argument("--every", type=int, default=100, help="steps from one checkpoint to the next")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stop-after", choices=("draw",))
    return parser


def drawn(args: argparse.Namespace) -> list[Path]:
    """Draw the people that are not there yet; without clips those that are there are taken."""
    folder = args.work / "people"
    if args.clips:
        clips = [clip for clips in args.clips for clip in split(clips)[0]]
        poses = np.concatenate([clip.pose.reshape(len(clip.pose), -1) for clip in clips])
        for number in draw_people(poses, args.people, folder, args.seed):
            if number % 50 == 0:
                print(f"person {number} of {args.people}", flush=True)
    files = sorted(folder.glob("*.npz"))[: args.people]
    if not files:
        raise SystemExit(f"{folder}: nobody was drawn; give --clips")
    return files


def train_views(
    args: argparse.Namespace,
    learnt: list[Path],
    unseen: list[Path],
    *,
    start: nn.Module | None = None,
    more: str = "",
    steps: int = 0,
) -> nn.Module:
    """Train the network that completes views; from `start` on with `more`: adversarial or perceptual."""
    samples = Samples(learnt, args.seed + bool(more), args.work / "views")
    critic = Critic() if more == "adversarial" else None
    features = LandmarkFeatures() if more == "perceptual" else None

    def loss(network: nn.Module, inputs: Tensor, truth: Tensor) -> Tensor:
        outputs = network(inputs)
        if critic is not None:
            return critic.loss(inputs, outputs, truth)
        value = view_loss(inputs, outputs, truth)
        if features is not None:
            found, goal = before_colors(inputs, outputs, truth, torch.ones(len(inputs), 3, 1, 1))
            value = value + _PERCEPTUAL * perceptual_loss(features, found, goal)
        return value

    def score(network: nn.Module) -> str:
        return view_score(network, samples, unseen)

    def make() -> nn.Module:
        network = refinement_network()
        if start is not None:
            network.load_state_dict(start.state_dict())
        return network

    if more:
        args = argparse.Namespace(**vars(args) | {"rate": _FURTHER * args.rate})
    name, parts = f"refine_{more}" if more else "refine", {} if critic is None else critic.parts
    return trained(args, name, make, samples.view, loss, steps or args.view_steps, score, parts)


def trained(
    args: argparse.Namespace,
    name: str,
    make: Callable[[], nn.Module],
    sample: Callable[[int], tuple[np.ndarray, np.ndarray]],
    loss_of: Callable[[nn.Module, Tensor, Tensor], Tensor],
    steps: int,
    score: Callable[[nn.Module], str],
    more: dict[str, Any] | None = None,
) -> nn.Module:
    """Train a network, or go on; returns it with the mean of its weights. more: further parts of the checkpoint."""
    torch.manual_seed(args.seed)
    network, mean = make().to(memory_format=torch.channels_last), make()
    mean.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate_factor(step / steps, _WARM))
    parts = {"network": network, "mean": mean, "optimiser": optimiser, "schedule": schedule} | (more or {})
    path = args.work / f"{name}.pt"
    settings = {"steps": steps, "batch": args.batch, "rate": args.rate, "seed": args.seed}
    first = resume(path, settings, parts, "cpu")
    losses: list[float] = []
    network.train()
    for step, (inputs, truth) in batches(sample, args.batch, first, steps):
        torch.manual_seed(args.seed + step)  # of the backgrounds, so that a run that was stopped goes on alike
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(network, inputs.contiguous(memory_format=torch.channels_last), truth)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        average_weights(mean, network, min(_DECAY, 1 - 5 / (step + 6)))
        losses.append(loss.item())
        if (step + 1) % args.every == 0 or step + 1 == steps:
            state = {key: part.state_dict() for key, part in parts.items()}
            with write_atomically(path) as temporary:
                torch.save({"step": step + 1, "settings": settings, **state}, temporary)
            print(f"{name}: step {step + 1} of {steps}: loss {np.mean(losses):.4f}; {score(mean.eval())}", flush=True)
            losses = []
    return mean.eval()


def batches(
    sample: Callable[[int], tuple[np.ndarray, np.ndarray]], size: int, first: int, steps: int
) -> Iterator[tuple[int, tuple[Tensor, Tensor]]]:
    """Yield the steps that are left, each with its batch; another thread makes the next ones meanwhile."""

    def batch(step: int) -> list[np.ndarray]:
        numbers = range(step * size, (step + 1) * size)
        return [np.stack(parts) for parts in zip(*(sample(number) for number in numbers), strict=True)]

    with ThreadPoolExecutor(1) as pool:
        waiting = deque(pool.submit(batch, step) for step in range(first, min(first + _AHEAD, steps)))
        for step in range(first, steps):
            inputs, truth = (torch.from_numpy(part) for part in waiting.popleft().result())
            if step + _AHEAD < steps:
                waiting.append(pool.submit(batch, step + _AHEAD))
            yield step, (inputs, truth)


@torch.no_grad()
def view_score(network: nn.Module, samples: Samples, people: list[Path]) -> str:
    """Describe the likeness of one view of each of some people, on white, in the boxes of their masks."""
    scores = []
    for path in people:
        pair = samples.whole_view(path, int(path.stem) % _SCORED_VIEWS)
        inputs, truth = (np.pad(a, ((0, 0), *((0, SIDE - n) for n in a.shape[1:]))) for a in pair)
        output = network(torch.from_numpy(inputs)[None])[0].numpy()
        planes = inputs.transpose(1, 2, 0)
        layers = Layers(planes[..., :6], planes[..., 6:11])
        box = box_of(truth[3] >= 0.5)
        goal = np.round(255 * (truth[:3] + 1 - truth[3:])).astype(np.uint8).transpose(1, 2, 0)[box]
        for one in (output, None):
            rgba = completed(layers, one)
            drawn = np.round(255 * (rgba[..., :3] + 1 - rgba[..., 3:]).clip(0, 1)).astype(np.uint8)[box]
            scores.append([psnr_db(drawn, goal), ssim(np.ascontiguousarray(drawn), np.ascontiguousarray(goal))])
    (by_network, alike), (plain, plain_alike) = np.reshape(scores, (-1, 2, 2)).mean(0)
    return f"{by_network:.2f} dB / {alike:.3f}, without the network {plain:.2f} dB / {plain_alike:.3f}"


def export(network: nn.Module, path: Path) -> None:
    """Write a network for onnxruntime: input (1, C, 256, 256), output of as many pixels."""
    export_network(network, path, (torch.zeros(1, VIEW_CHANNELS, SIDE, SIDE),), ["input"], "output", people=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
