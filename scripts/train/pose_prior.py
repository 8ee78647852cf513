"""Train the conditional pose prior, assets/prior/conditional.npz: keypoints to distributions over poses and shapes.

    python -m scripts.train.pose_prior CLIPS [CLIPS ...] -o assets/prior/conditional.npz
        [--steps 12000] [--batch 256] [--checkpoint FILE] [--start FILE] [--correlations] [--device cpu] [--seed 0]

CLIPS are folders of motion clips in the AMASS layout; those that `scripts.bench.accuracy` judges by are left out
(`is_held_out`). Examples are made as they are needed (`scripts/train/conditional/`), each step's by its own seed: a run
that is broken off and goes on from its checkpoint sees what one run would have seen. Two cores need under two hours.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

import bodyfit
from bodyfit.body.conditional.inputs import Slots
from bodyfit.body.conditional.network import JOINT_FREEDOM, PoseNetwork, Predicted, student
from bodyfit.geometry.rotation import so3_exp
from bodyfit.runtime.atomic import write_atomically
from bodyfit.skeleton import SMPL
from scripts.build.pose_prior import write_npz
from scripts.train.conditional.motion import read_motion
from scripts.train.conditional.views import Batch, Views

LICENCE = "Apache-2.0"
ATTRIBUTION = (
    "Trained on motion of the CMU Graphics Lab Motion Capture Database (mocap.cs.cmu.edu), of pybullet's clips (zlib)"
    " and of ReActIdle (MIT, RSAIT)."
)


class Kinematics:
    """Forward kinematics of the 24 joints, for gradients."""

    def __init__(self, model: bodyfit.BodyModel) -> None:
        rest = torch.cat([model.joints_template[:24, :, None], model.joints_shapedirs[:24, :, : model.num_betas]], 2)
        parents = [max(p, 0) for p in SMPL.parents]
        self.bones = rest - rest[parents]
        depth = [0] * 24
        for j in range(1, 24):
            depth[j] = depth[SMPL.parents[j]] + 1
        self.levels = [[j for j in range(24) if depth[j] == d] for d in range(1, max(depth) + 1)]

    def to(self, device: torch.device) -> Kinematics:
        """Move to a device."""
        self.bones = self.bones.to(device)
        return self

    def __call__(
        self, root: Float[Tensor, "B 3 3"], pose: Float[Tensor, "B 23 3"], betas: Float[Tensor, "B S"]
    ) -> Float[Tensor, "B 24 3"]:
        """Compute the joints about the root joint, metres."""
        R = so3_exp(pose)
        bones = self.bones[..., 0] + (self.bones[..., 1:] @ betas.T).permute(2, 0, 1)
        R_world: list[Tensor] = [root] * 24
        place: list[Tensor] = [torch.zeros_like(bones[:, 0])] * 24
        for level in self.levels:
            up = [SMPL.parents[j] for j in level]
            R_up = torch.stack([R_world[p] for p in up], 1)
            at = torch.stack([place[p] for p in up], 1) + (R_up @ bones[:, level, :, None])[..., 0]
            turned = R_up @ R[:, [j - 1 for j in level]]
            for i, j in enumerate(level):
                R_world[j], place[j] = turned[:, i], at[:, i]
        return torch.stack(place, 1)


def losses(
    out: Predicted, factor: Float[Tensor, "B P P"], truth: Batch, joints: Float[Tensor, "B 24 3"]
) -> dict[str, Tensor]:
    """Compute the terms of the loss: negative log likelihoods, and distances in decimetres.

    `factor`: Cholesky factor of the precision of orientation and joints together.
    """
    error = _half_log(out.root.mT @ truth.root)
    white = (truth.points - out.points) / torch.cat([out.points_scale[..., :1], out.points_scale], 2)
    spread = 2 * out.points_scale[..., 0].log() + out.points_scale[..., 1].log()
    points = 3.5 * (white.square().sum(2) / 4).log1p() + spread
    shape = (truth.betas - out.betas) / out.betas_scale
    together = torch.cat([error, (truth.pose - out.pose).flatten(1)], 1)
    return {
        "together": student(together, factor, JOINT_FREEDOM).mean() / together.shape[1],
        "pose": student(truth.pose - out.pose, out.pose_factor).mean(),
        "root": student(error, out.root_factor).mean(),
        "points": points.mean(),
        "betas": (0.5 * shape.square() + out.betas_scale.log()).mean(),
        "joints_dm": 10 * (joints - truth.joints).norm(dim=2).mean(),
        "points_dm": 10 * (out.points - truth.points).norm(dim=2).mean(),
    }


WEIGHTS = {"together": 0.5, "pose": 0.5, "root": 0.2, "points": 0.2, "betas": 0.1, "joints_dm": 1.5, "points_dm": 1.0}


def _half_log(R: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B 3"]:
    """Compute rotation vectors whose gradient stays finite up to half a turn: that of the chord, then scaled."""
    v = 0.5 * torch.stack([R[:, 2, 1] - R[:, 1, 2], R[:, 0, 2] - R[:, 2, 0], R[:, 1, 0] - R[:, 0, 1]], 1)
    cosine = ((R.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1)
    half = ((1 + cosine) / 2).clamp_min(1e-3).sqrt()  # cos(a / 2): v / half = 2 sin(a / 2) axis
    return v / half[:, None]


def rate(step: int, steps: int, peak: float) -> float:
    """Return the learning rate of a step: a short rise, then a cosine to 0."""
    rise = min(1.0, (step + 1) / 300)
    return peak * rise * (0.5 + 0.5 * math.cos(math.pi * min(1.0, step / steps)))


def state_of(network: PoseNetwork) -> dict[str, Tensor]:
    """Return copies of the weights."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


class Trainer:
    """The state of a training run."""

    def __init__(self, args: argparse.Namespace, views: Views, network: PoseNetwork) -> None:
        self.args, self.views = args, views
        self.device = torch.device(args.device)
        self.network = network.to(self.device)
        self.kinematics = Kinematics(views.model).to(self.device)
        if args.correlations:
            self.network.requires_grad_(False)
            self.network.correlations.requires_grad_(True)
        trained = [value for value in self.network.parameters() if value.requires_grad]
        self.optimiser = torch.optim.AdamW(trained, lr=args.rate, weight_decay=0.02, fused=True)
        self.mean = state_of(self.network)
        self.step, self.seconds = 0, 0.0
        if args.checkpoint and args.checkpoint.is_file():
            self.resume(args.checkpoint)

    def resume(self, path: Path) -> None:
        """Go on from a checkpoint."""
        saved = torch.load(path, weights_only=True, map_location=self.device)
        self.network.load_state_dict(saved["network"])
        self.optimiser.load_state_dict(saved["optimiser"])
        self.mean, self.step, self.seconds = saved["mean"], saved["step"], saved["seconds"]

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        if self.args.checkpoint is None:
            return
        state = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "mean": self.mean,
            "step": self.step,
            "seconds": self.seconds,
        }
        with write_atomically(self.args.checkpoint) as path:
            torch.save(state, path)

    def example(self, step: int, seed: int) -> Batch:
        """Make the batch of a step."""
        rng = torch.Generator().manual_seed((seed << 32) + step)
        with torch.no_grad():
            return _moved(self.views.batch(self.args.batch, rng), self.device)

    def loss(self, truth: Batch) -> dict[str, Tensor]:
        """Compute the terms of the loss of a batch."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.args.bfloat16):
            out, factor = self.network.predicted(truth.straight.features)
        return losses(out, factor, truth, self.kinematics(out.root, out.pose, out.betas))

    def run(self, until: int | None = None) -> None:
        """Train until a step, by default the last."""
        total: dict[str, float] = {}
        while self.step < (self.args.steps if until is None else until):
            begin = time.process_time()
            for group in self.optimiser.param_groups:
                group["lr"] = rate(self.step, self.args.steps, self.args.rate)
            terms = self.loss(self.example(self.step, self.args.seed))
            self.optimiser.zero_grad(set_to_none=True)
            torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            self.average()
            self.step += 1
            self.seconds += time.process_time() - begin
            for name, value in terms.items():
                total[name] = total.get(name, 0.0) + value.item()
            if self.step % self.args.every == 0 or self.step == self.args.steps:
                found = {name: round(value / self.args.every, 3) for name, value in total.items()}
                print(json.dumps({"step": self.step, "cpu_s": round(self.seconds), **found}), flush=True)
                total = {}
                self.save()
                self.export()

    def average(self) -> None:
        """Move the mean of the weights (Polyak) towards the present ones."""
        keep = min(0.999, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                self.mean[name].lerp_(value, 1 - keep)

    def export(self) -> None:
        """Write the mean weights as the network that ships, in half precision."""
        arrays = {f"weights/{name}": value.cpu().numpy().astype(np.float16) for name, value in self.mean.items()}
        network = self.network
        facts = {
            "slots": json.loads(self.views.slots.to_json()),
            "width": network.width,
            "blocks": network.depth,
            "joints": network.joints,
            "betas": network.betas,
            "steps": self.step,
            "batch": self.args.batch,
            "seed": self.args.seed,
            "clips": self.views.motion.clips,
            "cpu_minutes": round(self.seconds / 60, 1),
            "licence": LICENCE,
            "attribution": ATTRIBUTION,
        }
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        with write_atomically(self.args.output) as path:
            write_npz(path, arrays)


def _moved(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    straight = type(batch.straight)(batch.straight.features.to(device), batch.straight.R.to(device))
    rest = (getattr(batch, name).to(device) for name in ("root", "pose", "betas", "points", "joints"))
    return Batch(straight, *rest)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=250, help="steps between checkpoints and reports")
    parser.add_argument("--checkpoint", type=Path, help="write the state here, and go on from it if it is there")
    parser.add_argument("--start", type=Path, help="a network of the same width to begin with, which has fewer inputs")
    parser.add_argument("--correlations", action="store_true", help="train the errors' correlations alone")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--no-bfloat16", dest="bfloat16", action="store_false", help="multiply in full precision")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def trainer_of(args: argparse.Namespace) -> Trainer:
    """Make a new network of the command line's size, or go on with that of its checkpoint."""
    torch.manual_seed(args.seed)
    motion, _ = read_motion(args.clips)
    slots = Slots.of_layouts()
    views = Views(bodyfit.load_model(), motion, slots)
    network = PoseNetwork(slots=len(slots), width=args.width, blocks=args.blocks)
    network.mean_pose.copy_(motion.draw(4096, torch.Generator().manual_seed(args.seed)).mean(0))
    network.heights.copy_(views.heights)
    if args.start is not None:
        begin_with(network, args.start)
    return Trainer(args, views, network)


def begin_with(network: PoseNetwork, path: Path) -> None:
    """Copy the weights of a network that `Trainer.export` wrote; inputs and layers that it lacks weigh 0.

    Raises `SystemExit` for one of other layers.
    """
    with np.load(path) as arrays:
        state = {
            name.removeprefix("weights/"): torch.from_numpy(arrays[name].astype(np.float32))
            for name in arrays.files
            if name.startswith("weights/")
        }
    lacking = network.into.in_features - state["into.weight"].shape[1]
    state["into.weight"] = torch.nn.functional.pad(state["into.weight"], (0, lacking))
    unknown = network.load_state_dict(state, strict=False).unexpected_keys
    if unknown:
        raise SystemExit(f"error: {path}: a network of other layers: {', '.join(unknown)}")


def main() -> None:
    trainer_of(arguments()).run()


if __name__ == "__main__":
    main()
