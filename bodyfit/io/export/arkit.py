"""ARKit's 52 blend shapes of the open face, and the weights of them that show a body's expression, jaw and gaze."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import lsq_linear, nnls
from scipy.spatial.transform import Rotation
from torch import Tensor

from bodyfit.body.families.open import is_open
from bodyfit.body.files.archive import asset_path, read_archive
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.errors import OptionError

__all__ = ["ARKIT_NAMES", "FaceShapes", "arkit_shapes", "arkit_weights"]

_EYE = ("Blink", "LookDown", "LookIn", "LookOut", "LookUp", "Squint", "Wide")
_PAIRS = ("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch")
_PAIRS_BELOW = ("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown")

ARKIT_NAMES = (
    *(f"eye{what}{side}" for side in ("Left", "Right") for what in _EYE),
    *("jawForward", "jawRight", "jawLeft", "jawOpen", "mouthClose", "mouthFunnel", "mouthPucker"),
    *("mouthRight", "mouthLeft", *(f"{name}{side}" for name in _PAIRS for side in ("Left", "Right"))),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *(f"{name}{side}" for name in _PAIRS_BELOW for side in ("Left", "Right")),
    *("browInnerUp", "browOuterUpLeft", "browOuterUpRight", "cheekPuff", "cheekSquintLeft", "cheekSquintRight"),
    *("noseSneerLeft", "noseSneerRight", "tongueOut"),
)
"""Apple's names of `ARFaceAnchor.BlendShapeLocation`, in the order of Live Link Face's columns."""
_OF_JAW = ("jawOpen", "jawLeft", "jawRight")
"""What the jaw joint does."""
_NEVER = ("jawForward", "mouthClose", "tongueOut")
"""What no joint and no expression of the open body does."""
_OPPOSITE = (("jawLeft", "jawRight"), ("mouthLeft", "mouthRight"))
"""Of which a face shows one at a time."""
_WIDEST_RAD = 0.39
"""The turn of the jaw that jawOpen is at weight 1; of a wider one as much is shown, not made up by other shapes."""
_SPARSE = 1e-3
"""Cost of a weight, as a part of what its whole shape would cost: of near alternatives the fewest and smallest."""
_RIDGE = 1e-3
"""The same of its square, which makes the weights unique and continuous."""
_AT_ONCE = 64
"""Bodies posed at a time."""


@dataclass(frozen=True)
class FaceShapes:
    """ARKit's shapes as offsets of the open body's rest vertices."""

    offsets: Float[np.ndarray, "52 V 3"]
    """How far each moves every vertex at weight 1, metres, in the model's axes; in the order of `ARKIT_NAMES`."""
    look_rad: float
    """How far an eye turns at weight 1 of a look."""

    @property
    def moved(self) -> Int[np.ndarray, "N"]:
        """Vertices that any shape moves."""
        return np.flatnonzero(self.offsets.any((0, 2)))


@lru_cache(1)
def arkit_shapes() -> FaceShapes:
    """The shapes that ship. Raises `AssetError`."""
    archive = read_archive(asset_path("body", "arkit.npz"))
    rows = {str(name): slice(*archive["ptr"][k : k + 2].tolist()) for k, name in enumerate(archive["names"])}
    offsets = np.zeros((len(ARKIT_NAMES), int(archive["vertices"]), 3))
    for k, name in enumerate(ARKIT_NAMES):
        offsets[k, archive["vertex"][rows[name]]] = archive["offset"][rows[name]]
    return FaceShapes(offsets, float(np.radians(archive["look_deg"])))


def arkit_weights(model: BodyModel, bodies: BodyParams) -> Float[np.ndarray, "T 52"]:
    """The weights in [0, 1], in the order of `ARKIT_NAMES`, that show each body's expression, jaw and gaze best.

    Looks are the eyes' angles. jawOpen and jawLeft or jawRight are the bounded least squares, over the face's vertices,
    of what the jaw moves, and the others of what the expression moves, each frame by itself, with a small cost of every
    weight. jawForward, mouthClose and tongueOut, which neither can do, are 0. Zeros for a body of the open family
    without a face. Raises `OptionError` for any other body, whose mesh the shapes are not of.
    """
    if not is_open(model):
        raise OptionError(f"ARKit's shapes are those of the open body; {model.name} has another mesh")
    weights = np.zeros((bodies.batch, len(ARKIT_NAMES)))
    if model.kind.name != "smplx":
        return weights
    shapes = arkit_shapes()
    for side, name in (("Left", "leye_pose"), ("Right", "reye_pose")):
        right, down = _gaze(bodies[name].detach().double().cpu().numpy(), side).T / shapes.look_rad
        for what, value in (("Out", right), ("In", -right), ("Down", down), ("Up", -down)):
            weights[:, ARKIT_NAMES.index(f"eyeLook{what}{side}")] = np.clip(value, 0, 1)
    jaw = bodies["jaw_pose"].clone()
    jaw[:, 0].clamp_(max=_WIDEST_RAD)
    others = [name for name in ARKIT_NAMES if not name.startswith("eyeLook") and name not in (*_OF_JAW, *_NEVER)]
    for names, moved in ((_OF_JAW, {"jaw_pose": jaw}), (others, {"expression": bodies["expression"]})):
        rows = [ARKIT_NAMES.index(name) for name in names]
        pairs = [(names.index(a), names.index(b)) for a, b in _OPPOSITE if a in names]
        target = _face(model, bodies, moved, shapes.moved)
        weights[:, rows] = _bounded(shapes.offsets[rows][:, shapes.moved], target, pairs)
    return weights


def _gaze(rotvecs: Float[np.ndarray, "T 3"], side: str) -> Float[np.ndarray, "T 2"]:
    """How far an eye looks outwards and down, radians: the shortest turn from straight ahead, no roll."""
    ahead = Rotation.from_rotvec(rotvecs).apply([0.0, 0.0, 1.0])
    across = np.hypot(ahead[:, 0], ahead[:, 1])
    angle = np.arctan2(across, ahead[:, 2]) / np.where(across > 0, across, 1.0)
    to_left, up = angle * ahead[:, 0], angle * ahead[:, 1]
    return np.stack([to_left if side == "Left" else -to_left, -up], 1)


def _face(
    model: BodyModel, bodies: BodyParams, moved: Mapping[str, Float[Tensor, "T _"]], rows: Int[np.ndarray, "N"]
) -> Float[np.ndarray, "T N 3"]:
    """How far parameters of the face move its vertices on the bodies in the rest pose, metres."""
    vertices = torch.from_numpy(rows).to(model.device)
    offsets = []
    with torch.no_grad():
        for some in torch.arange(bodies.batch).split(_AT_ONCE):
            betas = bodies.betas[some]
            out = model(betas=betas, **{name: value[some] for name, value in moved.items()}).vertices
            offsets.append((out - model(betas=betas[:1]).vertices)[:, vertices].double().cpu().numpy())
    return np.concatenate(offsets)


def _bounded(
    shapes: Float[np.ndarray, "K N 3"], target: Float[np.ndarray, "T N 3"], opposite: list[tuple[int, int]]
) -> Float[np.ndarray, "T K"]:
    """Least squares of sums of shapes with weights in [0, 1], of `opposite` ones one at a time: the normal equations,
    factored once for all frames."""
    flat = shapes.reshape(len(shapes), -1)
    gram = flat @ flat.T
    whole = gram.diagonal()
    root = np.linalg.cholesky(gram + np.diag(_RIDGE * whole))
    right = np.linalg.solve(root, flat @ target.reshape(len(target), -1).T - _SPARSE * whole[:, None])
    weights = np.zeros((len(target), len(shapes)))
    for row, column in zip(weights, right.T, strict=True):
        row[:] = _within_bounds(root.T, column)
        if any(row[list(pair)].all() for pair in opposite):
            # The lesser goes, and of two about equal ones, which do another shape's work, both.
            lesser = [k for pair in opposite for k in pair if row[k] < 2 * row[list(pair)].min() or not row[k]]
            others = np.setdiff1d(np.arange(len(shapes)), lesser)
            row[:] = 0
            row[others] = _within_bounds(root.T[:, others], column)
    return weights


def _within_bounds(A: Float[np.ndarray, "K N"], b: Float[np.ndarray, "K"]) -> Float[np.ndarray, "N"]:
    """The x in [0, 1] of least |A x - b|; the upper bound seldom binds, and without it the solver is a fast one."""
    x = nnls(A, b)[0]
    return x if x.max(initial=0) <= 1 else lsq_linear(A, b, (0, 1), method="bvls").x.clip(0, 1)
