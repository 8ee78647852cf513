"""Measures what silhouettes add: girths and poses of rendered, unclothed people of known shape and height.

python -m scripts.bench.bodies.silhouettes --people 48

People stand as the components of the pose prior do, turned about the vertical, over a blurred background. Keypoints are
the detector's (or true ones with a made-up error, --noise), masks the detector's own and true ones.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace

import cv2
import numpy as np
import torch

import bodyfit
from bodyfit import render
from bodyfit.app.pipeline import lift_to_camera
from bodyfit.app.silhouettes import masks_of
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.detect import load_detector
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.fit.config import FitConfig, SilhouetteConfig
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.raster.depth import depth_map
from scripts.bench.records import harness

SIZE, FOCAL_PX, DEPTH_M = (800, 1000), 1100.0, 4.0
GIRTHS = ("chest", "waist", "hip")


def some_people(model: bodyfit.BodyModel, count: int, seed: int) -> bodyfit.BodyParams:
    """Draw people of random shapes before the camera."""
    g = torch.Generator().manual_seed(seed)
    means = torch.as_tensor(load_pose_prior(None).of_joints(model.body_joints).means, dtype=torch.float32)
    pose = means[torch.randint(len(means), (count,), generator=g)]
    pose = pose + 0.12 * torch.randn(pose.shape, generator=g)
    half = (torch.rand(count, generator=g) - 0.5) * math.pi
    orient = math.pi * torch.stack([half.cos(), 0 * half, half.sin()], 1)  # the half turn that puts heads up, and yaw
    params = model.params(betas=torch.randn(count, 10, generator=g), body_pose=pose, global_orient=orient)
    at = torch.stack([0.2 * torch.randn(count, generator=g), torch.zeros(count), torch.full((count,), DEPTH_M)], 1)
    return replace(params, transl=at - model.joints(params)[:, 0])


def pictures(model: bodyfit.BodyModel, vertices: torch.Tensor, seed: int) -> list[np.ndarray]:
    """Draw each body over a background of its own."""
    rng, camera, found = np.random.default_rng(seed), bodyfit.Camera.make(1, SIZE, focal_px=FOCAL_PX), []
    for body in vertices:
        coarse = rng.integers(60, 200, (12, 10, 3)).astype(np.uint8)
        ground = cv2.resize(coarse, SIZE, interpolation=cv2.INTER_CUBIC).astype(int)
        ground = np.clip(ground + rng.normal(0, 6, ground.shape), 0, 255).astype(np.uint8)
        found.append(render.overlay(ground, [(body, (0.78, 0.6, 0.5))], model.faces, camera))
    return found


def report(
    name: str, model: bodyfit.BodyModel, people: bodyfit.BodyParams, result: bodyfit.FitResult
) -> dict[str, float]:
    """Print and return mean errors of girths and of poses, mm."""
    got, want = model.measure(result.params.betas), model.measure(people.betas)
    off = [1000 * float((getattr(got, girth) - getattr(want, girth)).abs().mean()) for girth in GIRTHS]
    pose = pa_mpjpe(model.joints(result.params), model.joints(people)).per_item
    girths = ", ".join(f"{girth} {value:.1f}" for girth, value in zip(GIRTHS, off, strict=True))
    print(
        f"{name}: {girths}, mean {np.mean(off):.1f} mm; PA-MPJPE {np.mean(pose):.1f}, median {np.median(pose):.1f} mm"
        f"; masks left out: {sum(note is not None for note in result.mask_notes)}",
        flush=True,
    )
    return {"girths_mm": float(np.mean(off)), "pa_mpjpe_mm": float(np.mean(pose))}


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, help="error of true keypoints, parts of the height, for no detector")
    parser.add_argument("--clothing-cm", type=float, default=0.0)
    harness.add_json_option(parser)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    model = bodyfit.load_model()
    people = some_people(model, chosen.people, chosen.seed)
    with torch.no_grad():
        vertices = model(**people).vertices
    middle, faces = (SIZE[0] / 2, SIZE[1] / 2), model.faces.numpy()
    true = [depth_map(body, faces, FOCAL_PX, middle, SIZE).faces >= 0 for body in vertices.numpy()]
    masks: dict[str, list] = {}
    more: dict = {}
    rows = list(range(chosen.people))
    if chosen.noise is None:
        detector = load_detector(masks=True)
        found = [detector.detect([Frame(image)])[0] for image in pictures(model, vertices, chosen.seed)]
        rows = [i for i in rows if found[i] and found[i][0].mask is not None]
        some: list[Keypoints2D] = [found[i][0] for i in rows]
        xyc = np.stack([one.xyc for one in some])
        more["joints3d"] = np.stack([lift_to_camera(one, FOCAL_PX, SIZE) for one in some])
        masks["the detector's masks"] = [masks_of([one], SIZE)[0] for one in some]
    else:
        points = model.keypoints(people, "mediapipe33")
        xy = bodyfit.Camera.make(len(points), SIZE, focal_px=FOCAL_PX).project(torch.nan_to_num(points))
        error = chosen.noise * 1.7 * FOCAL_PX / DEPTH_M
        xy = xy + error * torch.randn(xy.shape, generator=torch.Generator().manual_seed(chosen.seed))
        xyc = torch.cat([xy, torch.isfinite(points).all(2, keepdim=True).float()], 2)
    masks["true masks"] = [true[i] for i in rows]
    people = people.select(rows)
    more |= {"height_m": model.measure(people.betas).height, "focal_px": FOCAL_PX}
    evidence = bodyfit.Evidence(keypoints=xyc, layout="mediapipe33", image_size=SIZE, **more)
    alone = report(f"{len(rows)} people, keypoints alone", model, people, bodyfit.fit(evidence, model=model))
    found_of: dict[str, dict[str, float]] = {"keypoints": alone}
    settings = SilhouetteConfig(clothing_cm=chosen.clothing_cm, hair_cm=chosen.clothing_cm)
    for name, given in masks.items():
        result = bodyfit.fit(replace(evidence, masks=given), model=model, config=FitConfig(silhouette=settings))
        found_of[name] = report(name, model, people, result)
    harness.write_json(chosen, {"people": len(rows), **found_of})


if __name__ == "__main__":
    main()
