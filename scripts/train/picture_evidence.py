"""Train the lift of landmarks by what a picture shows (bodyfit/detect/networks/lift.py) on drawn people alone.

    python -m scripts.train.picture_evidence WORK --clips CLIPS [CLIPS ...] [--photographs FOLDER] [--people 8000]
        [--scenes FOLDER ...] [--steps 1500] [--batch 256] [--seed 0] [-o assets/detector/pose_lift.onnx]

Three steps, each of which goes on where it was broken off. People are drawn into WORK/people: dressed, in poses of
motion clips that nothing is judged by (`is_held_out`), before photographs or painted rooms. The landmark network looks
once at each of them, its region and the picture disturbed, and what it makes of them is written to WORK/looks; so are
the people of SCENES, folders of `bodyfit scene --labels masks` with the body open-x. Then a head is trained on it
(WORK/checkpoint.pt), and written for onnxruntime (`pip install ".[train]"`).

A thousand people take 75 s of a core to draw and 10 s to look at; a step takes 0.1 s.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bodyfit.detect.networks.lift import CHANNELS, LANDMARKS, POOLED, SPOTS
from bodyfit.evaluate import metrics
from bodyfit.runtime.atomic import write_atomically
from scripts.train.picture.drawn import draw_people
from scripts.train.picture.looks import look_at
from scripts.train.picture.network import WEIGHTS, LiftNetwork, Truth, losses
from scripts.train.pose_prior import rate

LIMBS = [11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
INPUTS = ("geometry", "features", "pooled")
_HELD_OUT = 20
"""One of so many looks is not learnt from."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, help="folder for people, looks and checkpoint")
    parser.add_argument("--clips", type=Path, nargs="*", default=[], help="folders of motion clips in the AMASS layout")
    parser.add_argument("--photographs", type=Path, help="a folder of photographs without people, for backgrounds")
    parser.add_argument("--people", type=int, default=8000, help="how many to draw")
    parser.add_argument("--scenes", type=Path, nargs="*", default=[], help="folders of `bodyfit scene` to read as well")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rate", type=float, default=1e-3, help="the greatest learning rate")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--every", type=int, default=100, help="steps from one checkpoint to the next")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--out", type=Path, default=Path("assets/detector/pose_lift.onnx"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    if args.clips:
        draw_people(args.work / "people", args.clips, args.people, args.photographs, args.seed)
    folder = args.work / "looks"
    look_at(folder, args.work / "people", args.scenes, args.seed)
    data = read_looks(folder)
    if not data or len(data["geometry"]) < 2 * _HELD_OUT:
        parser.error(f"{folder}: {2 * _HELD_OUT} looks at people are needed")
    trainer = Trainer(args, data)
    trainer.run()
    export(trainer.averaged(), args.out)


def read_looks(folder: Path) -> dict[str, Tensor]:
    """Read all looks of a folder."""
    arrays: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            for name in file.files:
                arrays.setdefault(name, []).append(file[name])
    return {name: torch.from_numpy(np.concatenate(parts)) for name, parts in arrays.items()}


class Trainer:
    """The state of a training run. A step's examples are drawn by its number: a run that goes on sees the same."""

    def __init__(self, args: argparse.Namespace, data: dict[str, Tensor]) -> None:
        self.args = args
        held = torch.arange(len(data["geometry"])) // 8 % _HELD_OUT == 0  # neighbours may show one person
        self.held_out, self.data = ({k: v[rows] for k, v in data.items()} for rows in (held, ~held))
        torch.manual_seed(args.seed)
        self.network = LiftNetwork(width=args.width)
        for name, least in (("geometry", 1e-3), ("features", 0.05), ("pooled", 0.05)):
            self.network.standardise(name, self.data[name][:: max(1, len(self.data[name]) // 4000)], least)
        self.network.mean_pose.copy_(self.data["pose"].mean(0))
        self.optimiser = torch.optim.AdamW(self.network.parameters(), lr=args.rate, weight_decay=0.05)
        self.mean = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.step, self.seconds = 0, 0.0
        if (path := args.work / "checkpoint.pt").is_file():
            saved = torch.load(path, weights_only=True)
            self.network.load_state_dict(saved["network"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.mean, self.step, self.seconds = saved["mean"], saved["step"], saved["seconds"]

    def run(self, until: int | None = None) -> None:
        """Train until a step, by default the last."""
        total: dict[str, float] = {}
        for step in range(self.step, self.args.steps if until is None else until):
            begin = time.process_time()
            torch.manual_seed((self.args.seed << 32) + step)
            for group in self.optimiser.param_groups:
                group["lr"] = rate(step, self.args.steps, self.args.rate)
            rows = torch.randint(0, len(self.data["geometry"]), (self.args.batch,))
            inputs = [self.data[name][rows].float() for name in INPUTS]
            truth = Truth(**{f.name: self.data[f.name][rows] for f in fields(Truth)})
            terms = losses(self.network.distributions(*inputs), truth)
            self.optimiser.zero_grad(set_to_none=True)
            torch.stack([WEIGHTS[name] * value for name, value in terms.items()]).sum().backward()
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
            self.optimiser.step()
            keep = min(0.995, (step + 1) / (step + 10))
            with torch.no_grad():
                for name, value in self.network.state_dict().items():
                    self.mean[name].lerp_(value, 1 - keep)
            self.step, self.seconds = step + 1, self.seconds + time.process_time() - begin
            for name, value in terms.items():
                total[name] = total.get(name, 0.0) + value.item() / self.args.every
            if self.step % self.args.every == 0 or self.step == self.args.steps:
                found = {name: round(value, 3) for name, value in total.items()}
                self.save()
                print(
                    json.dumps({"step": self.step, "cpu_s": round(self.seconds), **found, **self.errors()}), flush=True
                )
                total = {}

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        state = {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "mean": self.mean}
        with write_atomically(self.args.work / "checkpoint.pt") as path:
            torch.save({**state, "step": self.step, "seconds": self.seconds}, path)

    def averaged(self) -> LiftNetwork:
        """Make the network with the mean weights along the way."""
        network = LiftNetwork(width=self.args.width)
        network.load_state_dict(self.mean)
        return network.eval()

    @torch.no_grad()
    def errors(self) -> dict[str, float]:
        """Measure PA-MPJPE and MPJPE of the limbs on held-out looks, mm, of the landmark network's lift and ours."""
        network, truth = self.averaged(), self.held_out["points"][:, LIMBS].numpy()
        parts = zip(*(self.held_out[name].split(512) for name in INPUTS), strict=True)
        ours = torch.cat([network(*(part.float() for part in each))[0] for each in parts])[:, LIMBS].numpy()
        found = {"landmarks": self.held_out["geometry"][:, LIMBS, 5:8].numpy(), "ours": ours}
        table = {}
        for name, points in found.items():
            table[f"{name}_pa_mm"] = round(float(metrics.pa_mpjpe(points, truth).per_item.mean()), 1)
            table[f"{name}_mm"] = round(float(metrics.mpjpe(points, truth, root=(6, 7)).per_item.mean()), 1)
        return table


def export(network: LiftNetwork, path: Path) -> None:
    """Write the network for onnxruntime, its weights in half precision."""
    import onnx
    from onnx import numpy_helper

    sizes = {"geometry": (LANDMARKS, 8), "features": (SPOTS, CHANNELS), "pooled": (POOLED,)}
    with write_atomically(path) as temporary:
        torch.onnx.export(
            network,
            tuple(torch.zeros(1, *size) for size in sizes.values()),
            str(temporary),
            input_names=list(sizes),
            output_names=["lift", "scale"],
            dynamic_axes={name: {0: "people"} for name in (*sizes, "lift", "scale")},
            opset_version=17,
            dynamo=False,
        )
        model = onnx.load(str(temporary))
        halved = []
        for weight in model.graph.initializer:
            values = numpy_helper.to_array(weight)
            if values.dtype == np.float32 and values.size > 64:
                name = weight.name
                weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
                halved.append(onnx.helper.make_node("Cast", [f"{name}_half"], [name], to=onnx.TensorProto.FLOAT))
        for i, node in enumerate(halved):
            model.graph.node.insert(i, node)
        model.doc_string = "See assets/README.md"
        onnx.checker.check_model(model)
        onnx.save(model, str(temporary))
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
