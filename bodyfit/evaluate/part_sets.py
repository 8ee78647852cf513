"""Hands of FreiHAND and whole bodies of EHF: their files as users have them, and the errors that their papers define.

FreiHAND (Zimmermann et al. 2019): hands after a similarity alignment, the area under the curve of correct points up to
50 mm, and the harmonic mean of precision and recall of points (Knapitsch et al. 2017) at 5 and 15 mm. EHF (Pavlakos et
al. 2019): mean distance of an SMPL-X mesh's vertices after a similarity alignment, of the whole body and of its parts,
each aligned by itself.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial import KDTree

from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, OptionError
from bodyfit.geometry.procrustes import align

__all__ = [
    "EHF_FOCAL_PX",
    "EHF_PRINCIPAL_PX",
    "EhfItem",
    "FreiHand",
    "f_score",
    "hand_scores",
    "mesh_vertices",
    "part_errors",
    "read_ehf",
    "read_freihand",
]

EHF_FOCAL_PX, EHF_PRINCIPAL_PX = 1498.22426237, (790.263706, 578.90334)
"""EHF's one camera, as published with the data set."""
SMPLX_VERTICES = 10475
_POINTS = 21
_CORRECT_M = np.linspace(0.0, 0.05, 100)
"""Thresholds of FreiHAND's curve of correct points."""


@dataclass(frozen=True)
class FreiHand:
    """The evaluation part of FreiHAND: N pictures of 224 by 224 pixels with one right hand each."""

    images: tuple[Path, ...]
    K: Float[np.ndarray, "N 3 3"]
    """Camera matrices, pixels."""
    xyz: Float[np.ndarray, "N 21 3"]
    """The wrist, then thumb to little finger from the palm to the tip, camera axes, metres."""
    scale_m: Float[np.ndarray, "N"]
    """Length of the proximal bone of each middle finger, metres."""


@dataclass(frozen=True)
class EhfItem:
    """A person of EHF."""

    image: Path
    keypoints: Path
    """OpenPose's JSON of body, hands and face."""
    vertices: Float[np.ndarray, "V 3"]
    """Of the SMPL-X mesh registered to the scan, world axes, metres."""


def read_freihand(folder: str | Path) -> FreiHand:
    """Read FreiHAND_pub_v2's evaluation_{K,xyz,scale}.json and evaluation/rgb/*.jpg.

    Raises `AssetError`, naming the file.
    """
    folder = Path(folder)
    images = tuple(sorted((folder / "evaluation" / "rgb").glob("*.jpg")))
    K, xyz = (_array(folder / f"evaluation_{name}.json", shape) for name, shape in (("K", (3, 3)), ("xyz", (21, 3))))
    scale = _array(folder / "evaluation_scale.json", ())
    if not len(images) == len(K) == len(xyz) == len(scale) > 0:
        counts = f"{len(images)} pictures, {len(K)} cameras, {len(xyz)} hands, {len(scale)} scales"
        raise AssetError(f"{folder}: FreiHAND has as many of each, found {counts}; fetch it again")
    return FreiHand(images, K, xyz, scale)


def _array(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Read a list of arrays of one shape from JSON. Raises `AssetError`."""
    try:
        values: Any = json.loads(path.read_text())
        array = np.array(values, np.float64)
    except (OSError, ValueError, TypeError) as error:
        raise AssetError(f"{path}: no JSON list of numbers ({error})") from None
    if array.ndim > 1 + len(shape) and array.shape[1:2] == (1,):  # the scales are lists of one
        array = array[:, 0]
    if array.shape[1:] != shape or not np.isfinite(array).all():
        raise AssetError(
            f"{path}: expected finite numbers of shape (N, {', '.join(map(str, shape))}), got {array.shape}"
        )
    return array


def read_ehf(folder: str | Path) -> list[EhfItem]:
    """Read EHF's NNN_img.jpg or .png, NNN_2Djnt.json and NNN_align.ply.

    Raises `AssetError`, naming the file.
    """
    folder, items = Path(folder), []
    for mesh_path in sorted(folder.glob("*_align.ply")):
        stem = mesh_path.name.removesuffix("_align.ply")
        image = next((p for p in (folder / f"{stem}_img.{e}" for e in ("jpg", "png")) if p.exists()), None)
        keypoints = folder / f"{stem}_2Djnt.json"
        if image is None or not keypoints.exists():
            raise AssetError(f"{folder}: {stem}_img.jpg or {stem}_2Djnt.json is missing; fetch the data set again")
        vertices = mesh_vertices(mesh_path, SMPLX_VERTICES)
        items.append(EhfItem(image, keypoints, vertices))
    if not items:
        raise AssetError(f"{folder}: no NNN_align.ply of EHF in this folder")
    return items


def mesh_vertices(path: Path, count: int) -> Float[np.ndarray, "V 3"]:
    """Read the vertices of a PLY mesh in the file's order. Raises `AssetError` where there are not `count`."""
    import trimesh  # takes a while to load

    try:
        vertices = np.asarray(trimesh.load_mesh(path, process=False).vertices, np.float64)
    except Exception as error:  # what the reader raises differs from file to file
        raise AssetError(f"{path}: no PLY mesh ({error})") from None
    if vertices.shape != (count, 3):
        raise AssetError(f"{path}: expected the {count} vertices of the body model, got {vertices.shape}")
    return vertices


def f_score(pred: Float[np.ndarray, "P 3"], truth: Float[np.ndarray, "Q 3"], threshold: float) -> float:
    """Compute the harmonic mean of the shares of points that have one of the other set within a threshold."""
    shares = [float((KDTree(b).query(a)[0] <= threshold).mean()) for a, b in ((pred, truth), (truth, pred))]
    return 2 * shares[0] * shares[1] / sum(shares) if sum(shares) else 0.0


def hand_scores(pred: Float[np.ndarray, "N 21 3"], truth: Float[np.ndarray, "N 21 3"]) -> dict[str, float | int]:
    """Score hands after a similarity alignment, metres: PA-MPJPE (mm), AUC to 50 mm, F-scores at 5 and 15 mm.

    Hands that were not found (NaN) count as failed and wrong for AUC and F-scores, and are left out of the mean error.
    """
    found = np.all(np.isfinite(pred), axis=(1, 2))
    aligned = align(pred, truth)(pred)
    off = np.where(found[:, None], np.linalg.norm(aligned - truth, axis=2), np.inf)
    correct = (off[..., None] <= _CORRECT_M).mean((0, 1))
    scores = {"hands": len(pred), "failed": int((~found).sum())}
    scores |= {"pa_mpjpe_mm": float(1000 * off[found].mean()) if found.any() else float("nan")}
    widths = np.diff(_CORRECT_M)
    scores |= {"auc": float((widths * (correct[1:] + correct[:-1]) / 2).sum() / widths.sum())}
    for mm in (5, 15):
        each = [f_score(a, b, mm / 1000) if ok else 0.0 for a, b, ok in zip(aligned, truth, found, strict=True)]
        scores[f"f_{mm}"] = float(np.mean(each))
    return scores


def part_errors(
    model: BodyModel,
    pred: Float[np.ndarray, "V 3"],
    truth: Float[np.ndarray, "V 3"],
) -> dict[str, float | int]:
    """Compute PA-V2V errors, mm, of a whole SMPL-X mesh and of its body, hands and face, each aligned by itself.

    Vertices are of the hands or the face where more than half of their skinning weights are. Raises `OptionError` for a
    model of other vertices.
    """
    if len(model.v_template) != SMPLX_VERTICES:
        raise OptionError(
            f"EHF's truth is SMPL-X's mesh of {SMPLX_VERTICES} vertices, and {model.name} has {len(model.v_template)};"
            " give an SMPL-X file as its model"
        )
    weights, names = model.weights.numpy(), model.skeleton.names
    fingers = ("thumb", "index", "middle", "ring", "pinky", "wrist")

    def share(*words: str) -> np.ndarray:
        return weights[:, [any(word in name for word in words) for name in names]].sum(1) > 0.5

    hands = share(*fingers)
    left = hands & share("left_")
    face = share("head", "jaw", "eye")
    parts = {"all": np.ones(len(pred), bool), "body": ~(hands | face), "face": face}
    errors = {name: _pa_mm(pred[rows], truth[rows]) for name, rows in parts.items()}
    each = [_pa_mm(pred[rows], truth[rows]) for rows in (left, hands & ~left)]
    return errors | {"hands": 0.5 * sum(each)}


def _pa_mm(pred: Float[np.ndarray, "V 3"], truth: Float[np.ndarray, "V 3"]) -> float:
    aligned = align(pred[None], truth[None])(pred[None])[0]
    return float(1000 * np.linalg.norm(aligned - truth, axis=1).mean())
