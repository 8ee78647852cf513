"""What a GPU makes of bodyfit: agreement with the CPU, then times of body, fit, rasteriser and networks; one table.

    python -m scripts.bench.gpu                          # some minutes on a GPU: 8,192 people
    python -m scripts.bench.gpu --device cpu --people 8  # the same paths at a small size, where there is none

People are drawn from the pose prior, turned all around, 3 to 6 m away, with 4 px of noise. The fits of the first few
are made on the CPU too, by its loops, and compared. Operations of an iteration are those that compute (views and
allocations are none), on a GPU kernels that are launched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import roma
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import bodyfit
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.objective import StageObjective
from bodyfit.geometry.camera import Camera
from bodyfit.solve.lm import _State, _step_by_tensors
from scripts.bench.records import harness

SIZE, FOCAL_PX, LAYOUT = (1000, 1000), 1000.0, "openpose25"
VIEWS = frozenset(
    """view _unsafe_view expand slice select transpose permute as_strided unsqueeze squeeze t detach alias diagonal
    unbind split reshape unflatten empty new_empty""".split()  # noqa: SIM905
)


def people(model: bodyfit.BodyModel, n: int, seed: int) -> tuple[bodyfit.BodyParams, torch.Tensor]:
    """Parameters, and keypoints (n, K, 3)."""
    rng = np.random.default_rng(seed)
    poses = torch.from_numpy(bodyfit.load_pose_prior().sample(n, seed=seed)).float()
    turn = roma.rotvec_to_rotmat(torch.from_numpy(rng.uniform(-np.pi, np.pi, (n, 1)) * [0.0, 1.0, 0.0]).float())
    orient = roma.rotmat_to_rotvec(torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ turn)
    place = np.stack([rng.uniform(-0.5, 0.5, n), np.zeros(n), rng.uniform(3, 6, n)], 1)
    betas = torch.from_numpy(rng.normal(0, 1, (n, model.num_betas)).clip(-2.5, 2.5)).float()
    params = model.params(betas=betas, body_pose=poses, global_orient=orient, transl=torch.from_numpy(place).float())
    points = model.keypoints(params, LAYOUT)
    xy = Camera.make(n, SIZE, focal_px=FOCAL_PX).project(torch.nan_to_num(points, nan=1.0))
    xy = xy + 4 * torch.from_numpy(rng.standard_normal(tuple(xy.shape))).float()
    seen = torch.isfinite(points).all(2)
    return params, torch.cat([xy, seen[..., None].float()], 2)


def seconds(run: Callable[[], Any], device: torch.device, repeats: int) -> float:
    """The median time of some calls, after one that warms up."""
    found = []
    for turn in range(repeats + 1):
        begin = time.perf_counter()
        run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if turn:
            found.append(time.perf_counter() - begin)
    return float(np.median(found))


class Operations(TorchDispatchMode):
    """Counts operations that compute."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func.overloadpacket.__name__ not in VIEWS
        return func(*args, **(kwargs or {}))


class ByTensors:
    """An objective without the loops of a CPU; a `solve.Problem`."""

    def __init__(self, objective: StageObjective) -> None:
        self.objective = objective

    def normal(self, x: torch.Tensor) -> Any:
        """Cost and normal equations."""
        return self.objective.reference(x)

    def select(self, index: torch.Tensor) -> ByTensors:
        """Some of the people."""
        return ByTensors(self.objective.select(index))


@torch.no_grad()
def operations(fitter: Fitter, xyc: torch.Tensor, device: torch.device) -> list[int]:
    """Operations of an iteration, of each stage."""
    known, _, present = fitter.checked(Evidence(keypoints=xyc[:8], layout=LAYOUT, image_size=SIZE, focal_px=FOCAL_PX))
    starts, _, seen = fitter.starts(known, fitter.observer.observations(known, present))
    found = []
    for stage in fitter.config.stages:
        problem, x = ByTensors(StageObjective(fitter.terms, stage, seen)), starts[:, 0]
        at = problem.normal(x)
        none = torch.zeros(len(x), dtype=torch.int64, device=device)
        state = _State(x=x, at=at, damping=torch.full_like(at.cost, 1e-3), finished=none > 0, iterations=none)
        if device.type == "cuda":
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
                _step_by_tensors(problem, state, stage.lm)
                torch.cuda.synchronize(device)
            found.append(sum(e.count for e in profile.key_averages() if e.key == "cudaLaunchKernel"))
        else:
            with Operations() as counted:
                _step_by_tensors(problem, state, stage.lm)
            found.append(counted.count)
    return found


def raster_ms(model: bodyfit.BodyModel, params: bodyfit.BodyParams, device: torch.device, repeats: int) -> float:
    """Milliseconds for the fragments of a body at 512 x 512."""
    from pytorch3d.renderer import PerspectiveCameras
    from pytorch3d.structures import Meshes

    from bodyfit.raster.rasterize import MeshRasterizer, RasterizationSettings

    n = min(8, params.batch)
    with torch.no_grad():
        vertices = model(**params.select(slice(0, n)).to(device)).vertices
    R = torch.diag(torch.tensor([-1.0, -1.0, 1.0])).to(device).expand(n, 3, 3)  # PyTorch3D: x left, y up
    cameras = PerspectiveCameras(focal_length=2.0, R=R, T=torch.zeros(n, 3, device=device), device=device)
    rasterizer = MeshRasterizer(cameras=cameras, raster_settings=RasterizationSettings(image_size=512, bin_size=0))
    meshes = Meshes(vertices, model.faces.expand(n, -1, -1))
    return 1e3 * seconds(lambda: rasterizer(meshes), device, repeats) / n


def network_ms(repeats: int) -> tuple[float, str]:
    """Milliseconds for the landmarks of one person, and what onnxruntime runs them by."""
    from bodyfit.detect.networks.session import shipped_network

    network = shipped_network("pose_landmarks")
    feed = network.blank_inputs()
    ms = 1e3 * seconds(lambda: network.run(None, feed), torch.device("cpu"), repeats)
    return ms, network.providers[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--people", type=int, default=8192)
    parser.add_argument("--compared", type=int, default=64, help="people that are fitted on the CPU, too")
    parser.add_argument("--batch-size", type=int, default=4096, help="people fitted at once")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    harness.add_json_option(parser)
    args = parser.parse_args()
    device = torch.device(args.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit("error: torch finds no GPU here; take --device cpu for a small run")
    config = bodyfit.FitConfig(backend="tensors", batch_size=args.batch_size)
    own, model = bodyfit.load_model(), bodyfit.load_model(device=device)
    params, xyc = people(own, args.people, args.seed)
    fitter = Fitter(layout=LAYOUT, model=model, config=config)
    n = min(args.compared, args.people)
    view = {"image_size": SIZE, "focal_px": FOCAL_PX}
    here = Fitter(layout=LAYOUT, model=own)(xyc[:n], **view)
    there = fitter(xyc[:n], **view)
    apart = 1e3 * (here.joints - there.joints.cpu()).norm(dim=2).mean(1)
    with torch.no_grad():
        on_device = params.to(device)
        meshes = own(**params.select(slice(0, n))).vertices, model(**on_device.select(slice(0, n))).vertices.cpu()
        body = seconds(lambda: model.joints(on_device), device, args.repeats)
        count = min(args.people, 2048)
        mesh = seconds(lambda: model(**on_device.select(slice(0, count))), device, args.repeats)
    begin = time.perf_counter()
    result = fitter(xyc, **view)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    fit = time.perf_counter() - begin
    landmarks, provider = network_ms(args.repeats)
    error = 1e3 * (result.joints.cpu() - own.joints(params)).norm(dim=2).mean(1)
    table: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "people": args.people,
        "backend": result.backend,
        "operations an iteration, by stage": operations(fitter, xyc, device),
        "meshes apart from the CPU's, mm, most": round(1e3 * float((meshes[0] - meshes[1]).norm(dim=2).max()), 4),
        "fits apart from the CPU's, mm, median": round(float(apart.median()), 4),
        "fits more than 1 mm apart, share": round(float((apart > 1).double().mean()), 4),
        "fits that ended well, share": sum(status.ok for status in result.status) / args.people,
        "joints off, mm, median": round(float(error.nanmedian()), 1),
        "joints, us a body": round(1e6 * body / args.people, 2),
        "mesh, us a body": round(1e6 * mesh / count, 2),
        "fit, ms a person": round(1e3 * fit / args.people, 4),
        "fit, people a second": round(args.people / fit),
        "rasteriser at 512 x 512, ms a body": round(raster_ms(model, params, device, args.repeats), 2),
        "landmark network, ms a person": round(landmarks, 2),
        "network by": provider,
    }
    for name, value in table.items():
        print(f"{name:<42}{value}")
    harness.write_json(args, table)
    if float((apart > 1).double().mean()) > 0.1:
        raise SystemExit("error: the device's fits are not the CPU's")


if __name__ == "__main__":
    main()
