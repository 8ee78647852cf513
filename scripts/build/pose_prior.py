"""Train the pose prior, assets/prior/pose_gmm.npz: a Gaussian mixture over the 69 body angles, and joint limits.

    python -m scripts.build.pose_prior --clips FOLDER -o assets/prior/pose_gmm.npz

FOLDER holds motion clips in the AMASS layout, at any depth: npz files whose `poses` (T, 72, 156 or 165) are axis-angle
in radians. Columns 3 to 65 are the joints left_hip to right_wrist; the two hand joints come from columns 66 to 71 of a
72-column file and are zero otherwise. Everything is seeded and the archive carries fixed time stamps: the same clips
give the same bytes.
"""

from __future__ import annotations

import argparse
import io
import itertools
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.spatial.transform import Rotation
from scipy.special import logsumexp

Array = NDArray[np.float64]

JOINTS = [
    "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle", "spine3",
    "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder", "right_shoulder",
    "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
]  # fmt: skip
# Places among the 24 joints that begin with the pelvis.
PARENTS = (0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
DIM = 3 * len(JOINTS)
ATTRIBUTION = "CMU Graphics Lab Motion Capture Database, mocap.cs.cmu.edu; pybullet clips (zlib)"

# Standard deviation (x, y, z) in radians of the independent noise added to each joint, left side for paired joints. It
# keeps the mixture from freezing what the clips never move (collars, feet, hands, the bending of the wrists; spines
# hardly), widens the arms, which do more in photographs than in the clips, and stands for what retargeting gets wrong.
FLOOR_STD = {
    "hip": (0.12, 0.12, 0.12), "knee": (0.12, 0.08, 0.08),
    "ankle": (0.15, 0.12, 0.12), "foot": (0.12, 0.08, 0.08),
    "spine1": (0.12, 0.10, 0.10), "spine2": (0.12, 0.10, 0.10),
    "spine3": (0.12, 0.10, 0.10), "neck": (0.12, 0.12, 0.12),
    "head": (0.12, 0.12, 0.12), "collar": (0.08, 0.12, 0.12),
    "shoulder": (0.22, 0.22, 0.22), "elbow": (0.12, 0.18, 0.12),
    "wrist": (0.12, 0.20, 0.20), "hand": (0.10, 0.12, 0.15),
}  # fmt: skip

# Ranges of motion in radians as rotation-vector components (x, y, z), left side for paired joints, in the model's frame
# (y up, z forward, x to the left) from the T-pose with the palms down. After the goniometric ranges of the AAOS (1965)
# and Kapandji: hip flexion 130 / extension 30, abduction 45 / adduction 30, rotation 45 / 40; knee 145; ankle 25 up, 50
# down; spine 80 forward, 40 back, 45 sideways and turned, over three joints; neck and head 60 each way bent, 80 turned,
# over two; elbow 150, with forearm rotation shared by elbow and wrist; wrist 75.
# Signs: hip flexion -x, knee flexion +x, toes down +x, bending forward +x, left elbow flexion -y, left arm, wrist and
# fingers down -z.
ANATOMICAL = {
    "hip": ((-2.3, 0.6), (-0.7, 0.8), (-0.55, 0.9)), "knee": ((-0.1, 2.55), (-0.3, 0.3), (-0.2, 0.2)),
    "ankle": ((-0.5, 0.9), (-0.45, 0.45), (-0.5, 0.4)), "foot": ((-0.8, 0.5), (-0.15, 0.15), (-0.15, 0.15)),
    "spine1": ((-0.25, 0.55), (-0.25, 0.25), (-0.3, 0.3)), "spine2": ((-0.25, 0.45), (-0.3, 0.3), (-0.3, 0.3)),
    "spine3": ((-0.25, 0.45), (-0.35, 0.35), (-0.3, 0.3)), "neck": ((-0.6, 0.6), (-0.75, 0.75), (-0.45, 0.45)),
    "head": ((-0.5, 0.5), (-0.65, 0.65), (-0.4, 0.4)), "collar": ((-0.2, 0.2), (-0.35, 0.35), (-0.25, 0.55)),
    "shoulder": ((-1.5, 1.2), (-2.1, 1.0), (-1.6, 1.5)), "elbow": ((-0.8, 0.8), (-2.6, 0.05), (-0.4, 0.4)),
    "wrist": ((-0.8, 0.8), (-0.5, 0.5), (-1.3, 1.2)), "hand": ((-0.2, 0.2), (-0.3, 0.3), (-1.0, 0.4)),
}  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """One motion clip, thinned in time."""

    name: str
    """File name without folder."""
    activity: str
    """What the clip shows: the file name without trailing numbers."""
    seconds: float
    """Duration."""
    pose: Array
    """(T, 23, 3) rotation vectors in radians, angles at most pi."""


@dataclass(frozen=True)
class Mixture:
    """A Gaussian mixture over D dimensions."""

    means: Array
    """(K, D)"""
    covars: Array
    """(K, D, D)"""
    weights: Array
    """(K,) summing to 1."""

    def log_joint(self, x: Array) -> Array:
        """log w_k + log N(x; mu_k, Sigma_k), of shape (N, K)."""
        out = np.empty((len(x), len(self.weights)))
        for k, (mean, covar) in enumerate(zip(self.means, self.covars, strict=True)):
            lower = np.linalg.cholesky(covar)
            white = solve_triangular(lower, (x - mean).T, lower=True)
            constant = np.log(np.diag(lower)).sum() + 0.5 * x.shape[1] * np.log(2 * np.pi)
            out[:, k] = np.log(self.weights[k]) - 0.5 * (white**2).sum(0) - constant
        return out

    def log_likelihood(self, x: Array) -> Array:
        """Natural logarithm of the density at each row of x."""
        return logsumexp(self.log_joint(x), axis=1)


def per_joint(table: dict[str, tuple]) -> Array:
    """Spread a table of left or central joints over all 23; right ranges are mirrored, deviations copied."""
    rows = []
    for joint in JOINTS:
        row = np.asarray(table[joint.removeprefix("left_").removeprefix("right_")], dtype=np.float64)
        if joint.startswith("right_") and row.ndim == 2:
            row[1:] = -row[1:, ::-1]
        rows.append(row)
    return np.stack(rows)


def mirror(pose: Array) -> Array:
    """The pose seen in a mirror, (..., 69): left and right change places, rotation vectors keep x, negate y, z."""
    swap = {"left_": "right_", "right_": "left_"}
    order = [JOINTS.index(re.sub("^(left_|right_)", lambda side: swap[side[0]], joint)) for joint in JOINTS]
    joints = pose.reshape(*pose.shape[:-1], len(JOINTS), 3)[..., order, :] * np.array([1.0, -1.0, -1.0])
    return joints.reshape(pose.shape)


def canonical(rotvec: Array) -> Array:
    """The same rotations with angles in [0, pi]: a file may carry turns beyond that from unwrapping."""
    angle = np.linalg.norm(rotvec, axis=-1, keepdims=True)
    wrapped = angle - 2 * np.pi * np.round(angle / (2 * np.pi))
    return rotvec * np.where(angle > np.pi, wrapped / np.maximum(angle, 1e-9), 1.0)


def without_rest_frame(pose: Array) -> Array:
    """Drop a leading calibration frame and express the clip relative to it.

    The CMU clips begin with a T-pose that jumps into the motion. There a straight body should be all zeros, but
    retargeting that aligns bone directions left offsets (foot rolled 0.4 rad, head 0.3 rad forward, knees 0.12 rad
    sideways), since SMPL's joints do not lie on straight lines. With A_j joint j's rotation at rest accumulated from
    the root, A_parent R_j A_j^T is free of them.
    """
    turns = [Rotation.from_rotvec(joints) for joints in pose[:3]]
    steps = [(before.inv() * after).magnitude().max() for before, after in itertools.pairwise(turns)]
    rest_like = np.linalg.norm(pose[0], axis=1).max() < 0.6
    if len(steps) < 2 or not rest_like or steps[0] < max(1.0, 2 * steps[1]):
        return pose
    accumulated = [Rotation.identity()]
    aligned = np.empty_like(pose[1:])
    for j, parent in enumerate(PARENTS):
        accumulated.append(accumulated[parent] * Rotation.from_rotvec(pose[0, j]))
        aligned[:, j] = (accumulated[parent] * Rotation.from_rotvec(pose[1:, j]) * accumulated[-1].inv()).as_rotvec()
    return aligned


def activity_of(path: Path) -> str:
    """`cmu_walking_12.npz` -> cmu_walking; where only numbers are left (AMASS's `01/01_01_poses.npz`), the folder."""
    stem = re.sub(r"(_poses|_stageii)$", "", path.stem)
    return re.sub(r"[\d_\-. ]+$", "", stem) or path.parent.name


def read_clip(path: Path, fps: float) -> Clip:
    """Read one AMASS-layout file and thin it to about `fps` frames a second."""
    with np.load(path, allow_pickle=False) as data:
        if "poses" not in data:
            raise SystemExit(f"{path}: no `poses` in it; expected an AMASS npz")
        poses = np.asarray(data["poses"], dtype=np.float64)
        rate = next((float(data[key]) for key in ("mocap_framerate", "mocap_frame_rate") if key in data), 30.0)
    if poses.ndim != 2 or poses.shape[1] not in (72, 156, 165) or not np.isfinite(poses).all():
        raise SystemExit(f"{path}: `poses` must be finite and (T, 72), (T, 156) or (T, 165), got {poses.shape}")
    body = np.zeros((len(poses), DIM))
    columns = 72 if poses.shape[1] == 72 else 66
    body[:, : columns - 3] = poses[:, 3:columns]
    pose = without_rest_frame(canonical(body.reshape(-1, len(JOINTS), 3)))
    return Clip(path.name, activity_of(path), len(pose) / rate, pose[:: max(1, round(rate / fps))])


def read_clips(folder: Path, fps: float) -> list[Clip]:
    """Every clip below the folder, in the order of the paths; AMASS's shape files (without motion) are passed over."""
    shapes = ("shape", "neutral_stagei", "male_stagei", "female_stagei")
    paths = sorted(path for path in folder.rglob("*.npz") if path.stem not in shapes)
    if not paths:
        raise SystemExit(f"{folder}: no npz files below it; give a folder of AMASS-layout clips")
    return [read_clip(path, fps) for path in paths]


def balanced_frames(clips: Sequence[Clip], balance: float) -> tuple[Array, Array]:
    """Stack clips and their mirror images into (N, 69) frames with weights (N,) that sum to 1.

    An activity counts as its seconds to the power `balance`, and so does a clip within it: 0 makes all equal, 1 goes
    by length.
    """
    seconds: dict[str, float] = {}
    shares: dict[str, float] = {}
    for clip in clips:
        seconds[clip.activity] = seconds.get(clip.activity, 0.0) + clip.seconds
        shares[clip.activity] = shares.get(clip.activity, 0.0) + clip.seconds**balance
    weights = []
    for clip in clips:
        total = seconds[clip.activity] ** balance * clip.seconds**balance / shares[clip.activity]
        weights.append(np.full(len(clip.pose), total / len(clip.pose)))
    x = np.concatenate([clip.pose.reshape(-1, DIM) for clip in clips])
    w = np.concatenate(weights)
    return np.concatenate([x, mirror(x)]), np.concatenate([w, w]) / (2 * w.sum())


def moments(x: Array, w: Array) -> tuple[Array, Array]:
    """Weighted mean and covariance."""
    mean = w @ x / w.sum()
    centred = x - mean
    return mean, (centred * w[:, None]).T @ centred / w.sum()


def symmetrised(mixture: Mixture, pairs: int) -> Mixture:
    """Make components 2i and 2i + 1 (i < pairs) each other's mirror images exactly, and each later one its own."""
    count = len(mixture.weights)
    partner = [k ^ 1 if k < 2 * pairs else k for k in range(count)]
    reflect = mirror(np.eye(DIM))
    means = 0.5 * (mixture.means + mirror(mixture.means[partner]))
    covars = 0.5 * (mixture.covars + reflect.T @ mixture.covars[partner] @ reflect)
    return Mixture(
        means, 0.5 * (covars + covars.transpose(0, 2, 1)), 0.5 * (mixture.weights + mixture.weights[partner])
    )


def initial_responsibility(x: Array, w: Array, count: int, pairs: int, rng: np.random.Generator) -> Array:
    """k-means++ seeding and Lloyd steps whose centres stay symmetric under reflection; (N, K) of zeros and ones."""
    centres: list[Array] = []
    while len(centres) < count:
        far = w if not centres else w * np.min([((x - c) ** 2).sum(1) for c in centres], axis=0)
        pick = x[rng.choice(len(x), p=far / far.sum())]
        centres += [pick, mirror(pick)] if len(centres) < 2 * pairs else [0.5 * (pick + mirror(pick))]
    middle = np.stack(centres)
    for _ in range(10):
        nearest = np.argmin((x**2).sum(1)[:, None] - 2 * x @ middle.T + (middle**2).sum(1), axis=1)
        hard = np.eye(count)[nearest] * w[:, None]
        filled = hard.sum(0) > 0
        middle[filled] = (hard.T @ x)[filled] / hard.sum(0)[filled, None]
    return np.eye(count)[nearest]


def maximise(x: Array, w: Array, responsibility: Array, pairs: int, target: Array, strength: float) -> Mixture:
    """The M step, with covariances shrunk toward `target` (worth `strength` of the data) and broadened by FLOOR_STD."""
    noise = np.diag(per_joint(FLOOR_STD).ravel() ** 2)
    means, covars, weights = [], [], []
    for column in (responsibility * w[:, None]).T:
        share = column.sum() + 1e-9
        mean, covar = moments(x, column + 1e-12 * w)
        means.append(mean)
        covars.append((share * covar + strength * target) / (share + strength) + noise)
        weights.append(share + 0.03)  # keeps -log w of a rare component from barring it
    return symmetrised(Mixture(np.stack(means), np.stack(covars), np.array(weights) / np.sum(weights)), pairs)


def fit_mixture(
    x: Array, w: Array, count: int, pairs: int, strength: float, seed: int, restarts: int = 6, iterations: int = 40
) -> Mixture:
    """Expectation maximisation over weighted frames that are closed under reflection; the best of several seedings."""
    total = moments(x, w)[1]
    target = 0.5 * (total + np.diag(np.diag(total)))
    best, best_score = None, -np.inf
    for restart in range(restarts if count > 1 else 1):
        responsibility = initial_responsibility(x, w, count, pairs, np.random.default_rng([seed, restart]))
        previous = -np.inf
        for _ in range(iterations):
            mixture = maximise(x, w, responsibility, pairs, target, strength)
            joint = mixture.log_joint(x)
            each = logsumexp(joint, axis=1)
            responsibility = np.exp(joint - each[:, None])
            score = float(w @ each)
            if score - previous < 1e-3:
                break
            previous = score
        if score > best_score:
            best, best_score = mixture, score
    assert best is not None
    order = np.argsort(-best.weights, kind="stable")
    return Mixture(best.means[order], best.covars[order], best.weights[order])


def joint_limits(x: Array, w: Array, margin: float = 0.1, tail: float = 0.002) -> tuple[Array, Array]:
    """Limits (69,), (69,) of the rotation-vector components: the data's quantiles with a margin and ANATOMICAL, united.

    A component the clips do not move stays at the anatomical range. Frames are closed under reflection, and so are the
    limits.
    """
    lower, upper = per_joint(ANATOMICAL).reshape(DIM, 2).T.copy()
    for i in range(DIM):
        order = np.argsort(x[:, i], kind="stable")
        cumulated = np.cumsum(w[order])
        low, high = x[order[np.searchsorted(cumulated, [tail, 1 - tail])], i]
        if high - low > 0.05:
            lower[i], upper[i] = min(lower[i], low - margin), max(upper[i], high + margin)
    reflected = np.sort([mirror(lower), mirror(upper)], axis=0)
    return np.minimum(lower, reflected[0]), np.maximum(upper, reflected[1])


def held_out_score(clips: Sequence[Clip], fraction: float, args: argparse.Namespace) -> tuple[float, float, list[str]]:
    """Balanced mean log-likelihood a frame of clips left out: the mixture's, a single Gaussian's, and those clips."""
    order = np.random.default_rng(args.seed).permutation(len(clips))
    left_out = set(order[: max(1, round(fraction * len(clips)))].tolist())
    train = balanced_frames([clip for i, clip in enumerate(clips) if i not in left_out], args.balance)
    test, test_weight = balanced_frames([clip for i, clip in enumerate(clips) if i in left_out], args.balance)
    scores = []
    for count, pairs in ((args.components, args.pairs), (1, 0)):
        mixture = fit_mixture(*train, count, pairs, args.shrink, args.seed)
        scores.append(float(test_weight @ mixture.log_likelihood(test)))
    return scores[0], scores[1], sorted(clips[i].name for i in left_out)


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """np.savez_compressed with fixed time stamps, so that equal arrays are equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)), buffer.getvalue(), zipfile.ZIP_DEFLATED
            )


def report(mixture: Mixture, clips: Sequence[Clip], x: Array, w: Array, limits: tuple[Array, Array]) -> None:
    """Print what a reader needs to judge the prior."""
    every = np.concatenate([clip.pose for clip in clips])
    wide = int((np.linalg.norm(every, axis=2) > 2.8).sum())
    seconds = sum(clip.seconds for clip in clips)
    print(f"{len(clips)} clips, {seconds:.0f} s, {len(every)} thinned frames, {wide} rotations over 2.8 rad")
    for activity in sorted({clip.activity for clip in clips}):
        print(f"  {activity:24s} {sum(clip.seconds for clip in clips if clip.activity == activity):7.1f} s")
    for k, (covar, weight) in enumerate(zip(mixture.covars, mixture.weights, strict=True)):
        low, *_, high = np.linalg.eigvalsh(covar)
        constant = 0.5 * np.linalg.slogdet(covar)[1] - np.log(weight)
        spread = f"condition {high / low:6.1f}  std {low**0.5:.3f} to {high**0.5:.3f}"
        print(f"component {k}: weight {weight:.3f}  {spread}  -log w + 1/2 logdet {constant:+.2f}")
    mean, covar = moments(x, w)
    middle = mixture.weights @ mixture.means
    spread2 = np.diagonal(mixture.covars, axis1=1, axis2=2) + (mixture.means - middle) ** 2
    rows = (mean, np.diag(covar) ** 0.5, (mixture.weights @ spread2) ** 0.5, *limits)
    print(
        "joint            data mean           data std            mixture std         lower limit         upper limit"
    )
    for j, joint in enumerate(JOINTS):
        print(f"{joint:15s}", *("[" + " ".join(f"{v:5.2f}" for v in row.reshape(-1, 3)[j]) + "]" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--clips", type=Path, required=True, help="folder of AMASS-layout npz clips, searched at any depth"
    )
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/prior/pose_gmm.npz"))
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=3, help="pairs of mirrored components; the rest mirror themselves")
    parser.add_argument(
        "--balance", type=float, default=0.5, help="0: all activities and clips count the same; 1: by length"
    )
    parser.add_argument("--shrink", type=float, default=0.05, help="share of the pooled covariance in each")
    parser.add_argument("--fps", type=float, default=15.0, help="thin clips to about this rate")
    parser.add_argument("--holdout", type=float, default=0.0, help="first score on this fraction of clips")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--attribution", default=ATTRIBUTION, help="whose clips they are, for the file")
    args = parser.parse_args()
    if not 0 <= 2 * args.pairs <= args.components:
        parser.error(f"--pairs must lie between 0 and half of --components, got {args.pairs} of {args.components}")

    clips = read_clips(args.clips, args.fps)
    if args.holdout > 0:
        mixed, single, names = held_out_score(clips, args.holdout, args)
        print(f"held-out log-likelihood a frame: mixture {mixed:.2f}, single Gaussian {single:.2f} nats")
        print(f"left out: {' '.join(names)}")
    x, w = balanced_frames(clips, args.balance)
    mixture = fit_mixture(x, w, args.components, args.pairs, args.shrink, args.seed)
    limits = joint_limits(x, w)
    report(mixture, clips, x, w, limits)
    activities = len({clip.activity for clip in clips})
    source = f"scripts/build/pose_prior.py: {len(clips)} clips, {activities} activities, mirrored; seed {args.seed}"
    write_npz(
        args.output,
        {
            "means": mixture.means.astype(np.float32),
            "covars": mixture.covars.astype(np.float32),
            "weights": mixture.weights.astype(np.float32),
            "limits_lower": limits[0].astype(np.float32),
            "limits_upper": limits[1].astype(np.float32),
            "source": np.array(source),
            "frames": np.array(f"{len(x) // 2} at about {args.fps:g} fps, and their mirror images"),
            "attribution": np.array(args.attribution),
        },
    )
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
