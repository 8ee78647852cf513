"""Make the hand pose prior, assets/prior/hand_gmm.npz: a Gaussian mixture over 45 angles of a left hand, and limits.

    python -m scripts.build.hand_prior -o assets/prior/hand_gmm.npz

Nobody's hands were recorded. The poses are those of `open_body/hand_poses.py`: grasps and signs as joint angles, what
lies between them and noise; half of them with every finger on a way of its own between two poses, so that one finger
may bend while the others do not. Everything is seeded: the same script gives the same bytes.

Angles are axis-angle from the template's flat hand, joints in the order of SMPL-H's (index, middle, pinky, ring, thumb,
from the palm on). A right hand is the mirror image: x stays, y and z change sign. `axes` are those of flexion,
abduction and twist of each joint; `limits` the least and largest projection of the axis-angle on them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.cluster.vq import kmeans2
from scipy.special import logsumexp

from scripts.build.open_body.hand_poses import (
    FINGERS,
    LEFT_FINGER_JOINTS,
    finger_limits,
    pose_vectors,
    sample_angles,
)
from scripts.build.pose_prior import Array, Mixture, moments, write_npz

SAMPLES = 24000
FLOOR_DEG = (7.0, 4.0, 2.5)
"""Deviations of the noise that is added to flexion, abduction and twist: handbooks' poses are no measurements."""
MARGIN_DEG = 4.0
"""Beyond the projections of the ranges of motion."""
DIGIT = np.array([FINGERS.index(name[5:-1]) for name in LEFT_FINGER_JOINTS])


def drawn_angles(count: int, rng: np.random.Generator) -> Array:
    """(N, 15, 3) flexion, abduction, twist: half of them whole poses, half a finger of one and a finger of another."""
    whole = sample_angles(count // 2, rng)
    mixed = sample_angles(len(FINGERS) * (count - count // 2), rng).reshape(len(FINGERS), -1, len(DIGIT), 3)
    own = np.stack([mixed[digit, :, joint] for joint, digit in enumerate(DIGIT)], 1)
    return np.concatenate([whole, own])


def projected_limits(axes: Array, rng: np.random.Generator) -> Array:
    """(15, 3, 2) least and largest projections of axis-angles on the axes, over the whole ranges of motion."""
    low, high = np.moveaxis(finger_limits()[: len(DIGIT)], -1, 0)
    corners = low + (high - low) * rng.beta(0.4, 0.4, (20000, *low.shape))
    along = np.einsum("njc,jac->nja", pose_vectors(corners, axes), axes)
    margin = np.radians(MARGIN_DEG)
    return np.stack([np.quantile(along, 0.005, 0) - margin, np.quantile(along, 0.995, 0) + margin], -1)


def fit_mixture(x: Array, components: int, floor: Array, seed: int, iterations: int = 60) -> Mixture:
    """Expectation maximisation with full covariances, shrunk towards the whole's and broadened by a floor."""
    total = moments(x, np.ones(len(x)))[1]
    _, label = kmeans2(x, components, minit="++", seed=seed)
    share, previous = np.eye(components)[label], -np.inf
    mixture = None
    for _ in range(iterations):
        means, covars, weights = [], [], []
        for column in share.T:
            mean, covar = moments(x, column + 1e-9)
            means.append(mean)
            covars.append(0.9 * covar + 0.1 * total + floor)
            weights.append(column.mean() + 0.02)
        mixture = Mixture(np.stack(means), np.stack(covars), np.array(weights) / np.sum(weights))
        joint = mixture.log_joint(x)
        each = logsumexp(joint, axis=1)
        share = np.exp(joint - each[:, None])
        if each.mean() - previous < 1e-3:
            break
        previous = each.mean()
    assert mixture is not None
    order = np.argsort(-mixture.weights, kind="stable")
    return Mixture(mixture.means[order], mixture.covars[order], mixture.weights[order])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/prior/hand_gmm.npz"))
    parser.add_argument("--body", type=Path, default=Path("assets/body/open.npz"), help="whose finger axes are taken")
    parser.add_argument("--components", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with np.load(args.body, allow_pickle=False) as body:
        flexion = np.asarray(body["finger_flexion_axes"], float)[: len(DIGIT)]
        abduction = np.asarray(body["finger_abduction_axes"], float)[: len(DIGIT)]
    axes = np.stack([flexion, abduction, np.cross(abduction, flexion)], 1)
    x = pose_vectors(drawn_angles(SAMPLES, np.random.default_rng(args.seed)), axes).reshape(SAMPLES, -1)
    turn = np.zeros((x.shape[1], x.shape[1]))
    for joint, rows in enumerate(axes):
        turn[3 * joint : 3 * joint + 3, 3 * joint : 3 * joint + 3] = rows.T * np.radians(FLOOR_DEG) ** 2 @ rows
    mixture = fit_mixture(x, args.components, turn, args.seed)
    held_out = pose_vectors(drawn_angles(4000, np.random.default_rng(args.seed + 1)), axes).reshape(4000, -1)
    scores = (mixture.log_likelihood(poses).mean() for poses in (x, held_out))
    print("log-likelihood a pose: {:.2f}, of poses drawn anew {:.2f}".format(*scores))
    print("weights", np.round(mixture.weights, 3))
    arrays = {
        "means": mixture.means, "covars": mixture.covars, "weights": mixture.weights, "axes": axes,
        "limits": projected_limits(axes, np.random.default_rng(args.seed + 2)),
    }  # fmt: skip
    source = np.array(f"scripts/build/hand_prior.py: {SAMPLES} constructed poses, seed {args.seed}")
    write_npz(args.output, {k: v.astype(np.float32) for k, v in arrays.items()} | {"source": source})
    print(f"wrote {args.output}")


if __name__ == "__main__":
    main()
