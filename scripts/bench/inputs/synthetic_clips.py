"""Motion clips of known bodies before a standing camera, seen through a detector's eyes. For `clips.py`.

A detector errs from frame to frame partly alike: a keypoint's noise is the sum of a bias that stays, a slow part that
forgets itself within half a second, and a part that is new in each frame; keypoints drop out, limbs are exchanged and
fronts are taken for backs for some frames on end; the 3D lift's errors go the same ways. Totals are those of
`synthetic_people.Detector`. What is new in each frame is as much as MediaPipe's landmarks show on two_people.mp4: there
the second differences of keypoints are 0.7 (nose) to 2.4 (toes) % of the person's height, those of the lift 2 to 6 cm
(robust deviations), and 7 % of the frames have front and back exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import roma
import torch

import bodyfit
from bodyfit.geometry.camera import Camera
from bodyfit.skeleton import layout_names, mirrored_rows
from scripts.bench.inputs.synthetic_people import _BENDS, FOCAL_PX, SIZE, Detector, _hidden, is_held_out
from scripts.build.pose_prior import activity_of, canonical, without_rest_frame

FPS = 30.0


@dataclass(frozen=True)
class TimedDetector:
    """How a made-up detector errs in a film."""

    still: Detector = field(default_factory=lambda: replace(Detector.like_mediapipe(), mistaken=0.07))
    """How it errs in pictures; `mistaken` and `swapped` are shares of frames."""
    bias: float = 0.3
    """Share of the variance that stays through the clip."""
    slow: float = 0.45
    """Share that forgets itself by 1 / e in `memory_s`; the rest is new in each frame."""
    lift_slow: float = 0.65
    """The same share of the lift's errors, whose bias is as large."""
    memory_s: float = 0.3
    run_s: float = 0.15
    """How long a drop-out or an exchange lasts on average."""

    def noise(self, shape: tuple[int, ...], rng: np.random.Generator, slow_share: float) -> np.ndarray:
        """(T, ...) of unit variance, alike in time as said."""
        forget = np.exp(-1 / (FPS * self.memory_s))
        fresh = rng.standard_normal(shape)
        slow = fresh.copy()
        for t in range(1, len(slow)):
            slow[t] = forget * slow[t - 1] + np.sqrt(1 - forget**2) * fresh[t]
        new = 1 - self.bias - slow_share
        white = rng.standard_normal(shape)
        return np.sqrt(self.bias) * rng.standard_normal(shape[1:]) + np.sqrt(slow_share) * slow + np.sqrt(new) * white

    def spells(self, share: float, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
        """(T, ...) bool, True for `share` of the time in runs of `run_s`."""
        stop = 1 / max(1.0, FPS * self.run_s)
        start = min(1.0, stop * share / (1 - share)) if share < 1 else 1.0
        on = np.zeros(shape, bool)
        draw = rng.random(shape)
        on[0] = draw[0] < share
        for t in range(1, len(on)):
            on[t] = np.where(on[t - 1], draw[t] > stop, draw[t] < start)
        return on


@dataclass(frozen=True)
class Film:
    """A clip of one person: the truth in camera axes and what the detector says, each (T, ...)."""

    name: str
    params: bodyfit.BodyParams
    joints: torch.Tensor
    """(T, J, 3) metres."""
    xyc: torch.Tensor
    """(T, K, 3)"""
    lift: torch.Tensor
    """(T, K, 3) metres."""

    def __len__(self) -> int:
        return len(self.joints)


def clip_paths(folder: Path, *, held_out: bool) -> list[Path]:
    """The clips of 30 frames a second, split as `synthetic_people` does it."""

    @dataclass(frozen=True)
    class Named:
        name: str
        activity: str

    paths = sorted(folder.glob("*.npz"))
    chosen = [p for p in paths if is_held_out(Named(p.name, activity_of(p))) == held_out]  # type: ignore[arg-type]
    return [p for p in chosen if 25 < float(np.load(p)["mocap_framerate"]) < 35]


def read_motion(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Body pose (T, 23, 3), root orientation (T, 3) and translation (T, 3) of a clip, y up."""
    with np.load(path) as data:
        poses, trans = np.float64(data["poses"]), np.float64(data["trans"])
    body = without_rest_frame(canonical(poses[:, 3:72].reshape(-1, 23, 3)))
    return body, canonical(poses[:, :3])[-len(body) :], trans[-len(body) :]


def film(
    path: Path,
    model: bodyfit.BodyModel,
    layout: str,
    *,
    detector: TimedDetector | None = None,
    seed: int = 0,
    frames: int | None = None,
) -> Film:
    """A random adult moves as in the clip, 3 to 6 m away at the nearest, seen from a random side and height."""
    detector = TimedDetector() if detector is None else detector
    rng = np.random.default_rng([seed, *path.name.encode()])
    body, root, trans = read_motion(path)
    if frames is not None and len(body) > frames:
        start = int(rng.integers(len(body) - frames))
        body, root, trans = (v[start : start + frames] for v in (body, root, trans))
    n = len(body)
    yaw, pitch = rng.uniform(-np.pi, np.pi), rng.uniform(-0.1, 0.4)
    R = roma.rotvec_to_rotmat(torch.tensor([np.pi + pitch, 0.0, 0.0])) @ roma.rotvec_to_rotmat(
        torch.tensor([0.0, yaw, 0.0])
    )
    R = R.double()
    path_m = torch.tensor(trans - trans.mean(0)) @ R.T
    # As near as is drawn, but no nearer than fits into the picture.
    nearest = rng.uniform(3.0, 6.0)
    depth = max(nearest - float(path_m[:, 2].min()), 2.2 * float(path_m[:, :2].abs().max()) + 1.5)
    transl = path_m + torch.tensor([rng.uniform(-0.1, 0.1) * depth, rng.uniform(-0.05, 0.1) * depth, depth])
    params = model.params(
        betas=torch.tensor(rng.standard_normal((1, 10)).clip(-2.5, 2.5)).expand(n, -1),
        body_pose=torch.tensor(body.reshape(n, -1)[:, : 3 * (model.body_joints - 1)]),
        global_orient=roma.rotmat_to_rotvec(R @ roma.rotvec_to_rotmat(torch.tensor(root))),
        transl=transl,
    )
    points, vertices, joints = [], [], []
    with torch.no_grad():
        for rows in torch.arange(n).split(64):
            out = model(**params.select(rows))
            joints.append(out.joints)
            points.append(model.keypoints(out, layout))
            vertices.append(out.vertices[:, ::4])  # enough to say what is hidden
    points, vertices = torch.cat(points), torch.cat(vertices)
    camera = Camera.make(n, SIZE, focal_px=FOCAL_PX, dtype=model.dtype)
    xyc = _seen(points, vertices, camera, layout, detector, rng)
    lift = _lifted(points, layout, detector, rng)
    mistaken = detector.spells(detector.still.mistaken, (n,), rng)
    sides = mirrored_rows(layout_names(layout))
    xyc[mistaken] = xyc[mistaken][:, sides]
    lift[mistaken] = lift[mistaken][:, sides]
    return Film(path.stem, params, torch.cat(joints), xyc, lift)


def _seen(points, vertices, camera: Camera, layout: str, detector: TimedDetector, rng) -> torch.Tensor:
    """As `synthetic_people._seen`, alike in time; what lies outside the picture is not seen."""
    of_body = camera.project(vertices)
    height = (of_body[..., 1].amax(1) - of_body[..., 1].amin(1)).numpy()
    hidden = _hidden(points, vertices).numpy()
    n, k = hidden.shape
    deviation = detector.still.noise * height[:, None] * np.where(hidden, detector.still.hidden, 1.0)
    xy = camera.project(points).numpy() + deviation[..., None] * detector.noise((n, k, 2), rng, detector.slow)
    confidence = np.where(hidden, rng.uniform(0.2, 0.7, (n, k)), rng.uniform(0.7, 1.0, (n, k)))
    confidence[detector.spells(detector.still.dropped, (n, k), rng)] = 0.0
    known = np.isfinite(xy).all(2)
    xy = np.nan_to_num(xy)
    known &= ((xy > 0) & (xy < SIZE)).all(2)
    xyc = np.concatenate([xy, (confidence * known)[..., None]], 2)
    names = layout_names(layout)
    other = np.array(mirrored_rows(names))
    for parts in (("elbow", "wrist", "knuckle"), ("knee", "ankle", "heel", "toe")):
        rows = np.array([row for row, name in enumerate(names) if any(part in name for part in parts)])
        spell = detector.spells(detector.still.swapped / 2, (n,), rng)
        xyc[np.ix_(spell, rows)] = xyc[np.ix_(spell, other[rows])]
    return torch.tensor(xyc, dtype=points.dtype)


def _lifted(points: torch.Tensor, layout: str, detector: TimedDetector, rng) -> torch.Tensor:
    """As `synthetic_people._lifted`, alike in time."""
    n, k = points.shape[:2]
    names, still, centred = layout_names(layout), detector.still, points.clone()

    def turns(deviation: float, across: tuple[float, float, float]) -> torch.Tensor:
        return roma.rotvec_to_rotmat(
            torch.tensor(deviation * detector.noise((n, 3), rng, detector.lift_slow) * across)
        ).to(points)

    for start, parts in _BENDS if still.lift_bend > 0 else ():
        rows = [i for i, name in enumerate(names) if any(part in name for part in parts)]
        middle = centred[:, [names.index(name) for name in start]].mean(1, keepdim=True)
        centred[:, rows] = middle + (centred[:, rows] - middle) @ turns(still.lift_bend, (1.0, 1.0, 0.5)).mT
    noise = still.lift_m * detector.noise((n, k, 3), rng, detector.lift_slow) * [1.0, 1.0, 2.0]
    centred = centred - centred.nanmean(1, keepdim=True)
    return centred @ turns(still.lift_turn, (1.0, 1.0, 1.0)).mT + torch.tensor(noise).to(points)
