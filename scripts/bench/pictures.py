"""How long pictures take: overlays, maps, the studio, and the same overlay by PyTorch3D's own shader.

    python -m scripts.bench.pictures [--threads 2] [--runs 7] [--json FILE]

Median wall time of warm calls, CPU time of the process beside it (of a busy machine, trust that). The person stands
0.9 of the picture high.
"""

from __future__ import annotations

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from pytorch3d.renderer import HardGouraudShader, TexturesVertex
from pytorch3d.structures import Meshes

import bodyfit
from bodyfit import render
from bodyfit.geometry.camera import flip_yz, to_pytorch3d_axes
from scripts.bench.records import harness

SIZES = {"1080p": (1920, 1080), "12 megapixels": (4000, 3000)}


@dataclass(frozen=True)
class Sight:
    """A picture with people before it."""

    image: np.ndarray
    bodies: list[tuple[torch.Tensor, render.Paint]]
    faces: torch.Tensor
    camera: bodyfit.Camera


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=7)
    harness.add_json_option(parser)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model = bodyfit.load_model("open")
    start = time.perf_counter()
    one = sight(model, SIZES["1080p"], 1)
    render.overlay(one.image, one.bodies, one.faces, one.camera)
    cold = time.perf_counter() - start
    print(f"{args.threads} threads; the first overlay of a process took {cold:.2f} s (numba loads, or compiles once)")
    found: dict[str, dict[str, float]] = {}

    def row(label: str, call: Callable[[], object]) -> None:
        found[label] = measure(label, call, args.runs)

    print(f"{'':60}{'wall ms':>9}{'CPU ms':>9}")
    for name, size in SIZES.items():
        for people in (1, 4):
            scene = sight(model, size, people)
            for label, call in calls(scene, model).items():
                if people == 1 or label.startswith("overlay"):
                    row(f"{name}, {people} {'person' if people == 1 else 'people'}: {label}", call)
    row("studio 480x640, soft shadows on the ground", lambda: studio(one))
    row("the same for films (rays=24)", lambda: studio(one, rays=24))
    harness.write_json(args, {"first_overlay_s": cold, "calls": found, "huge": huge(model)})


def sight(model: bodyfit.BodyModel, size: tuple[int, int], people: int) -> Sight:
    """Random people side by side, each 0.9 of the picture high."""
    bodies = bodyfit.random_bodies(people, model=model, seed=3, pose="a-pose")
    with torch.no_grad():
        vertices = flip_yz(model(**bodies).vertices)
    low, high = vertices.amin(1, keepdim=True), vertices.amax(1, keepdim=True)
    vertices = vertices - (low + high) / 2
    width, height = size
    focal = float(np.hypot(width, height))
    distance = focal * float((high - low)[..., 1].max()) / (0.9 * height)
    across = torch.linspace(-1, 1, people) * 0.35 * width / focal * distance if people > 1 else torch.zeros(1)
    vertices = vertices + torch.stack([across, torch.zeros(people), torch.full((people,), distance)], 1)[:, None]
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (height, width, 3), dtype=np.uint8)
    camera = bodyfit.Camera.make(1, size, focal_px=focal)
    painted = [(v, render.person_color(i)) for i, v in enumerate(vertices)]
    return Sight(image, painted, model.faces, camera)


def calls(scene: Sight, model: bodyfit.BodyModel) -> dict[str, Callable[[], object]]:
    """What is timed on one picture."""
    seen = (scene.bodies, scene.faces, scene.camera)
    return {
        "overlay": lambda: render.overlay(scene.image, *seen),
        "overlay without shadows": lambda: render.overlay(scene.image, *seen, shadows=False),
        "the four maps": lambda: render.draw_maps(*seen, part_weights=model.weights),
        "PyTorch3D's shader, one sample a pixel": lambda: by_pytorch3d(scene),
    }


def by_pytorch3d(scene: Sight) -> np.ndarray:
    """The overlay with hard edges by PyTorch3D's Gouraud shader over our rasteriser."""
    width, height = scene.camera.image_size
    vertices = [to_pytorch3d_axes(v) for v, _ in scene.bodies]
    colors = [v.new_tensor(paint).expand(len(v), 3) for v, paint in scene.bodies]
    start = np.cumsum([0, *(len(v) for v in vertices[:-1])]).tolist()
    faces = torch.cat([scene.faces + k for k in start])
    mesh = Meshes([torch.cat(vertices)], [faces], TexturesVertex([torch.cat(colors)]))
    cameras = render.pytorch3d_cameras(scene.camera)
    settings = render.RasterizationSettings(image_size=(height, width))
    fragments = render.MeshRasterizer(cameras, settings)(mesh)
    rgba = HardGouraudShader(cameras=cameras, lights=render.StudioLights())(fragments, mesh)[0].numpy()
    return np.where(rgba[..., 3:] > 0, 255 * rgba[..., :3].clip(0, 1), scene.image).astype(np.uint8)


def studio(scene: Sight, rays: int = 64) -> np.ndarray:
    """The first person from the side."""
    stage = render.Stage.around(scene.bodies[0][0], view="side")
    return stage.draw(scene.bodies[:1], scene.faces, rays=rays)


def huge(model: bodyfit.BodyModel) -> dict[str, float]:
    """What a picture of 20,000 pixels takes in memory beyond itself and its copy."""
    scene = sight(model, (20_000, 10_000), 1)
    tracemalloc.start()
    start = time.perf_counter()
    picture = render.overlay(scene.image, scene.bodies, scene.faces, scene.camera)
    seconds = time.perf_counter() - start
    more = (tracemalloc.get_traced_memory()[1] - picture.nbytes) / 1e6
    tracemalloc.stop()
    print(f"20000x10000 pixels: overlay {seconds:.1f} s, {more:.0f} MB beside the picture and the result")
    return {"s": seconds, "mb": more}


def measure(label: str, call: Callable[[], object], runs: int) -> dict[str, float]:
    """Print a row of the table: median milliseconds of calls, by the clock and of the processor."""
    call()
    walls, cpus = [], []
    for _ in range(runs):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(1e3 * (time.perf_counter() - wall))
        cpus.append(1e3 * (time.process_time() - cpu))
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    print(f"{label:<60}{wall:9.0f}{cpu:9.0f}", flush=True)
    return {"ms": wall, "cpu_ms": cpu}


if __name__ == "__main__":
    main()
