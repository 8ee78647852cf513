"""Other packages, and SMPLify by autograd, as a user would run them on the benchmark's people.

keypoints2body gets the true 3D joints and smplfitter the true mesh, which is more than 2D keypoints tell. Each works on
the open body, written as a file of smplx's layout. What is not installed is left out by its name.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import bodyfit
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.evaluate import pa_mpjpe
from bodyfit.fit.config import FitConfig
from bodyfit.fit.residuals.bends import AnglePrior
from bodyfit.fit.residuals.common.robust import geman_mcclure
from bodyfit.fit.residuals.mixture import MixturePrior
from bodyfit.geometry.camera import FLIP_YZ
from bodyfit.io.results.model_file import save_model

__all__ = ["Seen", "show_peers", "time_peers"]


@dataclass(frozen=True)
class Seen:
    """What the peers are given of N people."""

    xyc: Tensor
    """(N, K, 3) keypoints."""
    start: Tensor
    """(N, 6) translation and orientation at which ours starts."""
    joints: Tensor
    """(N, 24, 3) true joints in metres."""
    vertices: Tensor
    """(N, V, 3) true mesh in metres."""
    layout: str
    focal_px: float
    centre_px: float


Fit = Callable[[], Tensor]
"""The timed part: to (N, 24, 3) joints."""


def keypoints2body(seen: Seen, folder: Path) -> Fit:
    """Its default on frames that do not follow each other: L-BFGS on each from the mean pose, upright with y up."""
    import h5py
    from keypoints2body import optimize_params_frame
    from keypoints2body.api.model_factory import load_body_model
    from keypoints2body.core.config import BodyModelConfig

    models = folder / "data" / "models"  # where it looks for its files
    models.mkdir(parents=True)
    save_model("open", models, layout="smplx")
    prior = load_pose_prior()
    with open(models / "gmm_08.pkl", "wb") as file:
        pickle.dump({"means": prior.means, "covars": prior.covars, "weights": prior.weights}, file)
    with h5py.File(models / "neutral_smpl_mean_params.h5", "w") as file:
        file["pose"], file["shape"] = np.concatenate([np.zeros(3), prior.mean]), np.zeros(10)
    body = load_body_model(BodyModelConfig(model_dir=models), torch.device("cpu"))

    def fit() -> Tensor:
        with contextlib.chdir(folder):
            upright = (seen.joints * seen.joints.new_tensor(FLIP_YZ)).numpy()
            fits = [optimize_params_frame(j, joint_layout="SMPL24", model=body) for j in upright]
        joints = torch.cat([fit.joints.detach().reshape(-1, 3)[None, :24] for fit in fits])
        return joints * joints.new_tensor(FLIP_YZ)

    return fit


def smplfitter(seen: Seen, folder: Path) -> Fit:
    """Its closed-form fit to a whole mesh, everybody at once."""
    import smplfitter.pt

    path = save_model("open", folder, layout="smplx")
    os.symlink(path.resolve(), folder / "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl")
    np.save(folder / "kid_template.npy", np.zeros(seen.vertices.shape[1:]))
    body = smplfitter.pt.BodyModel("smpl", "neutral", str(folder), num_betas=10)
    fitter = smplfitter.pt.BodyFitter(body)

    def fit() -> Tensor:
        found = fitter.fit(seen.vertices, seen.joints, num_iter=3, requested_keys=["pose_rotvecs", "shape_betas"])
        return body(found["pose_rotvecs"], found["shape_betas"], found["trans"])["joints"].detach()

    return fit


def smplify_by_autograd(seen: Seen, _: Path) -> Fit:
    """The paper's stages without interpenetration by L-BFGS through the whole body layer, a person at a time."""
    model, prior = bodyfit.load_model(), load_pose_prior()
    kind = {"dtype": model.dtype, "device": model.device}
    mixture, angle = MixturePrior(prior, **kind), AnglePrior(**kind)
    mean = torch.as_tensor(prior.mean, **kind)
    stages = FitConfig.smplify().stages

    def one(xyc: Tensor, start: Tensor) -> Tensor:
        x = torch.cat([start, mean, start.new_zeros(model.num_betas)])[None].requires_grad_()

        def body():
            end = x.shape[1] - model.num_betas
            return model(betas=x[:, end:], body_pose=x[:, 6:end], global_orient=x[:, 3:6], transl=x[:, :3])

        for stage in stages:
            optimizer = torch.optim.LBFGS([x], max_iter=30, line_search_fn="strong_wolfe")

            def closure(optimizer=optimizer, stage=stage) -> Tensor:
                optimizer.zero_grad()
                points = torch.nan_to_num(model.keypoints(body(), seen.layout))
                xy = seen.focal_px * points[..., :2] / points[..., 2:].clamp_min(0.1) + seen.centre_px
                seen_cost = (xyc[:, 2:].square() * geman_mcclure(xy[0] - xyc[:, :2], 100.0)[0]).sum()
                pose, betas = x[:, 6 : x.shape[1] - model.num_betas], x[:, -model.num_betas :]
                cost = seen_cost + stage.pose**2 * mixture.component_costs(pose).amin(1).sum()
                cost = cost + stage.angle**2 * angle(pose).cost.sum() + stage.shape**2 * betas.square().sum()
                cost.backward()
                return cost

            optimizer.step(closure)
        return body().joints.detach()

    return lambda: torch.cat([one(xyc, start) for xyc, start in zip(seen.xyc, seen.start, strict=True)])


PEERS: dict[str, tuple[Callable[[Seen, Path], Fit], int]] = {
    "keypoints2body": (keypoints2body, 4),
    "smplfitter": (smplfitter, 256),
    "SMPLify by autograd": (smplify_by_autograd, 4),
}
"""Name -> (what makes the timed call, how many people it gets)."""


def time_peers(select: Callable[[int], Seen]) -> dict[str, dict[str, float | str]]:
    """Milliseconds a person and error of each, on as many people as `select` is asked for; why one was left out."""
    report: dict[str, dict[str, float | str]] = {}
    for name, (make, people) in PEERS.items():
        seen = select(people)
        with (
            tempfile.TemporaryDirectory() as folder,
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            try:
                fit = make(seen, Path(folder))
            except ImportError as error:
                report[name] = {"left out": f"{error.name or error} is not installed"}
                continue
            begin = time.perf_counter()
            joints = fit()
            seconds = time.perf_counter() - begin
        report[name] = {
            "people": len(joints),
            "ms_a_person": 1e3 * seconds / len(joints),
            "pa_mpjpe_mm": pa_mpjpe(joints, seen.joints[: len(joints)]).mean,
        }
    return report


def show_peers(report: dict[str, dict[str, float | str]]) -> None:
    """The report as text."""
    print(f"\n{'as users run them':<20}{'people':>7}{'ms/person':>11}{'PA mm':>7}")
    for name, row in report.items():
        if "left out" in row:
            print(f"{name:<20} left out: {row['left out']}")
        else:
            print(f"{name:<20}{row['people']:>7}{row['ms_a_person']:>11.2f}{row['pa_mpjpe_mm']:>7.1f}")
