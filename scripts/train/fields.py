"""Train compositional feature fields as an auto-decoder: networks, and a code for each person and background.

    python -m scripts.train.field_pictures -o PICTURES --people 200 --each 18
    python -m scripts.train.fields PICTURES -o RUN --steps 12000

RUN/checkpoint.pt is written every `--every` steps; the same command goes on from there and ends at the same weights as
a run that was never stopped (on one thread of a CPU). RUN/people.npz is the trained set. With `--adversarial FROM` a
patch discriminator joins from step FROM on, with `--perceptual FROM` features of the landmark network (`pip install
".[train]"`).
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.body_field import AtlasField
from bodyfit.fields.compositional.discriminator import PatchDiscriminator, discriminator_loss, generator_loss
from bodyfit.fields.compositional.field_set import FieldSet, load_fields, save_fields
from bodyfit.fields.compositional.losses import picture_loss
from bodyfit.fields.compositional.network import FieldNetwork, NetworkConfig
from bodyfit.fields.compositional.samples import SampleBatch, Window
from bodyfit.runtime.atomic import write_atomically
from scripts.train.field_data import FieldPicture, batch_of, load_split
from scripts.train.field_grow import begin_with_fields
from scripts.train.field_pictures import BACKGROUNDS
from scripts.train.field_start import begin_with_colors
from scripts.train.landmark_features import LandmarkFeatures, perceptual_loss

_RATE, _TABLE_RATE = 2e-3, 5e-3
_FLAT, _END = 0.3, 0.02
"""The rate is level for this part of the steps, then falls to this part of itself as half a cosine does."""
_CODES = 1e-4
"""Weight of the mean square of codes' lengths."""
_CROP = 32
"""Side of crops, feature pixels."""
_AT_PEOPLE = 0.9
_PRUNE, _PRUNE_FROM = 0.12, 0.06
"""At this part of the steps samples are left out that were empty for everyone since that part."""
_EMPTY = 0.02
"""Density times step that counts as nothing."""
_MARGIN_M = 0.01


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How fields are trained."""

    steps: int = 12000
    batch: int = 8
    seed: int = 0
    rate: float = 1.0
    """Factor of the learning rates; less than 1 to go on from a trained set."""
    adversarial_from: int | None = None
    """Step from which the discriminator joins; None for never."""
    adversarial_weight: float = 0.02
    perceptual_from: int | None = None
    """Step from which features of the landmark network are compared as well; None for never."""
    perceptual_weight: float = 0.1


class Trainer:
    """Networks, codes and optimisers at some step of a training."""

    def __init__(self, config: TrainConfig, network: NetworkConfig, people: int, device: str = "cpu") -> None:
        torch.manual_seed(config.seed)
        self.config, self.step, self.device = config, 0, device
        self.network = FieldNetwork(network).to(device)
        self.appearances = nn.Parameter(0.3 * torch.randn(people, network.code_size, device=device))
        self.backgrounds = nn.Parameter(0.3 * torch.randn(BACKGROUNDS, network.background_size, device=device))
        tables = [p for name, p in self.network.body.named_parameters() if name in ("mean", "basis")]
        others = [p for p in self.network.parameters() if all(p is not t for t in tables)]
        self.optimizer = torch.optim.Adam(
            [
                {"params": others, "lr": _RATE},
                {"params": [*tables, self.appearances, self.backgrounds], "lr": _TABLE_RATE},
            ],
            betas=(0.9, 0.99),
            fused=True,
        )
        self.farthest_m = torch.full((network.anchors,), -1.0, device=device)
        self.discriminator = PatchDiscriminator().to(device)
        self.critic = torch.optim.Adam(self.discriminator.parameters(), lr=2e-4, betas=(0.0, 0.99))
        self.features = None if config.perceptual_from is None else LandmarkFeatures().to(device)

    def train_step(self, pictures: list[FieldPicture]) -> float:
        """Take the next step; what it draws at random depends on its number alone. Returns the loss."""
        rng = np.random.default_rng([self.config.seed, self.step])
        chosen = [pictures[int(i)] for i in rng.integers(len(pictures), size=self.config.batch)]
        side = chosen[0].camera.size // self.network.config.upsampling
        windows = [_window(one, side, rng) for one in chosen]
        batch, truth, alpha = batch_of(chosen, windows, self.network, self.appearances, self.backgrounds)
        self._set_rates()
        drawn = self.network(batch)
        loss = picture_loss(drawn, truth, alpha)
        total = loss + _CODES * batch.codes.square().sum(1).mean()
        start = self.config.adversarial_from
        if start is not None and self.step >= start:
            total = total + self.config.adversarial_weight * generator_loss(self.discriminator, drawn.pictures)
        if self.features is not None and self.step >= (self.config.perceptual_from or 0):
            pair = (_enlarged(drawn.pictures), _enlarged(truth))
            total = total + self.config.perceptual_weight * perceptual_loss(self.features, *pair)
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        if start is not None and self.step >= start:
            self.critic.zero_grad(set_to_none=True)
            discriminator_loss(self.discriminator, truth, drawn.pictures.detach()).backward()
            self.critic.step()
        if _PRUNE_FROM <= self.step / self.config.steps < _PRUNE:
            self._note(batch.samples, drawn.optical.detach())
        self.step += 1
        return float(loss.detach())

    def _note(self, samples: SampleBatch, optical: Tensor) -> None:
        """Remember how far from the body there is anything at each anchor."""
        some = optical > _EMPTY
        self.farthest_m.scatter_reduce_(0, samples.anchors[some, 0], samples.signed_m[some], "amax")

    def prune(self, pictures: list[FieldPicture]) -> list[FieldPicture]:
        """Leave empty samples out from now on; once, when it is time or a set that was begun with has done so."""
        unknown = bool((self.network.reach_m == 1).all())
        if unknown and self.step < _PRUNE * self.config.steps:
            return pictures
        if unknown:
            anchors = surface_atlas(self.network.config.anchors, self.network.config.coarse).anchors
            near = torch.from_numpy(anchors.near[anchors.vertices].astype(np.int64)).to(self.device)
            self.network.reach_m.copy_((self.farthest_m[near].amax(1) + _MARGIN_M).clamp(0.0, 0.2))
        reach = self.network.reach_m.cpu().numpy()
        return [replace(one, bodies=tuple(body.within(reach) for body in one.bodies)) for one in pictures]

    def _set_rates(self) -> None:
        done = self.step / self.config.steps
        fall = 0.5 - 0.5 * math.cos(math.pi * max(0.0, (done - _FLAT) / (1 - _FLAT)))
        factor = self.config.rate * (1 - (1 - _END) * fall)
        for group, rate in zip(self.optimizer.param_groups, (_RATE, _TABLE_RATE), strict=True):
            group["lr"] = rate * factor

    def state(self) -> dict[str, object]:
        """All that the next step depends on."""
        parts = ("network", "optimizer", "discriminator", "critic")
        tensors = {name: getattr(self, name).detach() for name in ("appearances", "backgrounds", "farthest_m")}
        return {"step": self.step, **tensors, **{name: getattr(self, name).state_dict() for name in parts}}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from a state."""
        self.step = int(state["step"])
        for name in ("appearances", "backgrounds", "farthest_m"):
            getattr(self, name).data.copy_(state[name])
        for name in ("network", "optimizer", "discriminator", "critic"):
            getattr(self, name).load_state_dict(state[name])

    def fields(self) -> FieldSet:
        """The set of fields as it is now."""
        return FieldSet(self.network.eval(), self.appearances.detach(), self.backgrounds.detach())


def _enlarged(pictures: Tensor) -> Tensor:
    """Pictures at twice the size: people of 128 pixels come to the size at which the landmark network looks."""
    return nn.functional.interpolate(pictures, scale_factor=2.0, mode="bilinear", align_corners=False)


def _window(one: FieldPicture, side: int, rng: np.random.Generator) -> Window:
    """A crop about a place on people, or anywhere."""
    crop, up = min(_CROP, side), one.alpha.shape[0] // side
    y, x = rng.integers(side, size=2)
    if rng.random() < _AT_PEOPLE:
        rows = np.flatnonzero(one.alpha)
        if len(rows):
            y, x = np.array(np.divmod(rows[int(rng.integers(len(rows)))], one.alpha.shape[1])) // up
    top, left = (int(np.clip(at - crop // 2 + rng.integers(-6, 7), 0, side - crop)) for at in (y, x))
    return top, top + crop, left, left + crop


def save_checkpoint(trainer: Trainer, folder: Path) -> None:
    """Write the state and the set, whole or not at all."""
    with write_atomically(folder / "checkpoint.pt") as temporary:
        torch.save(trainer.state(), temporary)
    save_fields(trainer.fields(), folder / "people.npz")
    trainer.network.train()


def run(
    trainer: Trainer,
    pictures: list[FieldPicture],
    folder: Path,
    every: int,
    until: int | None = None,
    start: FieldSet | None = None,
) -> None:
    """Train to the end, or `until` a step, from the folder's checkpoint if it has one, else from a set if given."""
    last = trainer.config.steps if until is None else until
    path = folder / "checkpoint.pt"
    if path.is_file():
        trainer.load(torch.load(path, map_location=trainer.device, weights_only=True))
    elif start is not None:
        begin_with_fields(trainer.network, trainer.appearances.data, trainer.backgrounds.data, start, pictures)
    elif isinstance(trainer.network.body, AtlasField):
        sizes = trainer.network.config
        atlas = surface_atlas(sizes.anchors, sizes.coarse)
        begin_with_colors(trainer.network.body, trainer.appearances.data, atlas, pictures)
    mean, started, samples = 0.0, time.process_time(), pictures
    while trainer.step < last:
        if samples is pictures:
            samples = trainer.prune(pictures)
        mean += trainer.train_step(samples)
        if trainer.step % every == 0 or trainer.step == last:
            save_checkpoint(trainer, folder)
            spent = time.process_time() - started
            print(f"step {trainer.step}: loss {mean / every:.4f}, {spent:.0f} s of CPU", file=sys.stderr, flush=True)
            mean = 0.0


def main() -> None:
    """Train by the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, help="folder of scripts.train.field_pictures")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="RUN")
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--start", type=Path, metavar="SET", help="begin with a trained set of the same people")
    parser.add_argument("--code", type=int, default=NetworkConfig.code_size, help="length of appearance codes")
    parser.add_argument("--basis", type=int, default=NetworkConfig.basis, help="rank of what codes change")
    parser.add_argument("--field", default="atlas", help="atlas, or plain: the paper's perceptron")
    parser.add_argument("--most", type=int, help="train on the first so many pictures alone")
    parser.add_argument("--people", type=int, help="train on the first so many of the cast alone")
    parser.add_argument("--adversarial", type=int, metavar="FROM", help="step from which the discriminator joins")
    parser.add_argument("--perceptual", type=int, metavar="FROM", help="step from which features are compared as well")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    hidden = 96 if args.field == "plain" else 64
    network = NetworkConfig(field=args.field, hidden=hidden, code_size=args.code, basis=args.basis)
    pictures = load_split(args.pictures, "train", network, most=args.most)
    if args.people is not None:
        pictures = [one for one in pictures if max(one.people) < args.people]
    people = 1 + max(i for one in pictures for i in one.people)
    config = TrainConfig(
        steps=args.steps,
        batch=args.batch,
        seed=args.seed,
        rate=args.rate,
        adversarial_from=args.adversarial,
        perceptual_from=args.perceptual,
    )
    trainer = Trainer(config, network, people, args.device)
    args.out.mkdir(parents=True, exist_ok=True)
    start = None if args.start is None else load_fields(args.start)
    run(trainer, pictures, args.out, args.every, start=start)


if __name__ == "__main__":
    main()
