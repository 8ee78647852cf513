"""Times of the rasteriser beside PyTorch3D's own on the CPU, and how far their fragments and gradients agree.

    python -m scripts.bench.render [--size 512] [--rounds 1] [--threads N] [--cases nearest,soft,...] [--json FILE]

The open body in its rest pose, filling the picture's height, before a perspective camera. Each case is a call of
`MeshRasterizer` (projection, rasterisation, fragments), or the backward pass of a sum of all fragments to the vertices.
In every round each program has a turn; ours repeats until 0.2 s are full and its median counts. Times are the clock's
and the processor's, summed over threads: on a busy machine trust the second. Ours alone is drawn at 1920x1080 and
3840x2160, where PyTorch3D would take minutes. First calls, which load and compile, are timed in fresh processes, with
an empty cache and with a full one.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pytorch3d.renderer import MeshRasterizer as PyTorch3DRasterizer
from pytorch3d.renderer import PerspectiveCameras
from pytorch3d.structures import Meshes

import bodyfit
from bodyfit.render import MeshRasterizer, RasterizationSettings
from scripts.bench.records import harness

BLUR = math.log(1 / 1e-4 - 1) * 1e-4  # where PyTorch3D's soft silhouette has fallen to 1e-4
CASES: dict[str, dict[str, Any]] = {
    "nearest": {},
    "soft": {"faces_per_pixel": 8, "blur_radius": BLUR},
}
LARGE = ((1080, 1920), (2160, 3840))


@dataclass(frozen=True)
class Cost:
    """Of one call, seconds."""

    clock: float
    cpu: float


def body() -> tuple[torch.Tensor, torch.Tensor]:
    """The open body's vertices, 2.6 m before a camera at the origin, and its faces."""
    model = bodyfit.load_model("open")
    vertices = model().vertices[0].detach()
    middle = (vertices.amin(0) + vertices.amax(0)) / 2
    return vertices - middle + torch.tensor([0.0, 0.0, 2.6]), torch.as_tensor(model.faces).long()


def timed(call: Callable[[], Any], budget_s: float = 0.0) -> tuple[Cost, Any]:
    """The median cost of as many calls as fill the budget, at least one, and the last result."""
    costs, result = [], None
    end = time.perf_counter() + budget_s
    while not costs or time.perf_counter() < end:
        result = None  # a large picture's memory is given back before the next is drawn
        clock, cpu = time.perf_counter(), time.process_time()
        result = call()
        costs.append(Cost(time.perf_counter() - clock, time.process_time() - cpu))
    return Cost(*(statistics.median(getattr(c, k) for c in costs) for k in ("clock", "cpu"))), result


def agreement(ours: Any, theirs: Any) -> dict[str, float]:
    """Share of equal entries of pix_to_face, and the largest difference where they are equal."""
    same = ours.pix_to_face == theirs.pix_to_face
    found = {"pix_to_face equal": float(same.double().mean())}
    for name in ("zbuf", "bary_coords", "dists"):
        found[name] = float((getattr(ours, name) - getattr(theirs, name)).detach().abs()[same].max())
    return found


def compare(options: dict[str, Any], size: int, rounds: int) -> dict[str, Any]:
    """Both programs on one case, forwards and backwards."""
    vertices, faces = body()
    vertices.requires_grad_()
    camera = PerspectiveCameras(focal_length=2.5)
    settings = RasterizationSettings(image_size=size, **options)
    mesh = Meshes([vertices], [faces])
    programs = {"ours": MeshRasterizer(camera, settings), "PyTorch3D": PyTorch3DRasterizer(camera, settings)}
    costs: dict[str, dict[str, list[Cost]]] = {name: {"forward": [], "backward": []} for name in programs}
    fragments, grads = {}, {}
    programs["ours"](mesh).dists.sum().backward()  # loads and compiles
    for _ in range(rounds):
        for name, rasterizer in programs.items():
            budget = 0.2 if name == "ours" else 0.0
            cost, f = timed(lambda r=rasterizer: r(mesh), budget)
            costs[name]["forward"].append(cost)
            loss = f.zbuf.sum() + f.dists.sum() + (f.bary_coords * torch.tensor([0.1, 0.2, 0.3])).sum()
            cost, grad = timed(lambda e=loss: torch.autograd.grad(e, vertices, retain_graph=True)[0], budget)
            costs[name]["backward"].append(cost)
            fragments[name], grads[name] = f, grad
    found: dict[str, Any] = agreement(fragments["ours"], fragments["PyTorch3D"])
    size_of = grads["PyTorch3D"].norm(dim=1)
    seen = size_of > 0
    relative = (grads["ours"] - grads["PyTorch3D"]).norm(dim=1) / size_of.clamp_min(1e-3 * size_of[seen].median())
    found["vertices whose gradient agrees to 1e-3"] = float((relative[seen] < 1e-3).double().mean())
    for way in ("forward", "backward"):
        found[way] = {
            name: {k: statistics.median(getattr(c, k) for c in costs[name][way]) for k in ("clock", "cpu")}
            for name in programs
        }
    return found


def first_calls() -> dict[str, float]:
    """Seconds of the first call in a fresh process, by kind, with an empty and with a full cache."""
    code = (
        "import sys, time, torch\n"
        "from pytorch3d.renderer import PerspectiveCameras\n"
        "from pytorch3d.utils import ico_sphere\n"
        "from bodyfit.render import MeshRasterizer, RasterizationSettings\n"
        "mesh = ico_sphere(3).offset_verts(torch.tensor([0.0, 0.0, 3.0]))\n"
        "mesh.verts_packed().requires_grad_()\n"
        "k, blur = int(sys.argv[1]), float(sys.argv[2])\n"
        "s = RasterizationSettings(image_size=512, faces_per_pixel=k, blur_radius=blur)\n"
        "start = time.perf_counter()\n"
        "MeshRasterizer(PerspectiveCameras(), s)(mesh)\n"
        "print(time.perf_counter() - start)\n"
    )
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for cache in ("empty", "full"):
            for name, k, blur in (("nearest", "1", "0"), ("soft", "8", str(BLUR))):
                done = subprocess.run(
                    [sys.executable, "-c", code, k, blur],
                    env={**os.environ, "NUMBA_CACHE_DIR": f"{folder}/{k}"},
                    capture_output=True,
                    text=True,
                    check=True,
                )
                found[f"{name}, {cache} cache"] = float(done.stdout)
    return found


def large() -> dict[str, dict[str, float]]:
    """Our forward pass alone on large pictures."""
    vertices, faces = body()
    found = {}
    for size in LARGE:
        rasterizer = MeshRasterizer(PerspectiveCameras(focal_length=2.5), RasterizationSettings(image_size=size))
        mesh = Meshes([vertices], [faces])
        rasterizer(mesh)
        found[f"{size[1]}x{size[0]}"] = vars(timed(lambda r=rasterizer, m=mesh: r(m), 1.0)[0])
    return found


def report_case(case: str, found: dict[str, Any]) -> None:
    print(f"\n{case} {CASES[case]}")
    for way in ("forward", "backward"):
        ours, theirs = found[way]["ours"], found[way]["PyTorch3D"]
        print(
            f"  {way:8}  ours {1e3 * ours['clock']:8.1f} ms (cpu {1e3 * ours['cpu']:8.1f})   PyTorch3D "
            f"{1e3 * theirs['clock']:9.0f} ms (cpu {1e3 * theirs['cpu']:9.0f})   ratio "
            f"{theirs['clock'] / ours['clock']:7.0f} (cpu {theirs['cpu'] / ours['cpu']:7.0f})"
        )
    print("  " + ", ".join(f"{k} {v:.6g}" for k, v in found.items() if not isinstance(v, dict)), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="pixels of the picture's sides")
    parser.add_argument("--rounds", type=int, default=1, help="PyTorch3D takes half a minute a round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated")
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"{args.size}x{args.size}, {args.threads} threads, {args.rounds} rounds")
    results: dict[str, Any] = {"cases": {}, "large": large(), "first": first_calls()}
    drawn = (f"{size} {1e3 * c['clock']:.0f} ms (cpu {1e3 * c['cpu']:.0f})" for size, c in results["large"].items())
    print("ours alone, nearest: " + ", ".join(drawn))
    print("first call: " + ", ".join(f"{k} {v:.2f} s" for k, v in results["first"].items()), flush=True)
    for case in filter(None, args.cases.split(",")):
        results["cases"][case] = compare(CASES[case], args.size, args.rounds)
        report_case(case, results["cases"][case])
    harness.write_json(args, results)


if __name__ == "__main__":
    main()
