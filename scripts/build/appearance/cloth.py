"""Weights of cloth and hair: evened out over the mesh, blended between the legs, hanging from the head."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from bodyfit.geometry.neighbours import neighbour_means
from scripts.build.open_body.tree import TREE_JOINTS

_PELVIS = TREE_JOINTS.index("pelvis")
_LEGS = {side: [TREE_JOINTS.index(f"{side}_{name}") for name in ("hip", "knee")] for side in ("left", "right")}
_HEM_TO_PELVIS = 0.6
"""Part of the legs' weights that the hem of a top gives to the pelvis: a shirt does not part with the legs."""
_SKIRT_HALF_M = 0.07
"""How far from the middle a skirt goes wholly with the leg of its side."""
_SKIRT_FALLS_M = (-0.17, -0.39)
"""Heights on the open body between which a skirt comes to go with the legs alone."""
_OFF_SKIN_M, _SUNK_M = 0.004, 0.03
"""Cloth is brought this far off the skin where it is nearer or under it, but not from deeper than the second."""
_COVERS_M, _TOUCHES_M, _BORDER_M = 0.045, 0.006, 0.018
"""Cloth covers skin less than the first below it, or that it touches (the second), if no border is near (the third)."""
_HANGS_M = 0.22
"""How far below the chin hair goes with the back as much as it ever does."""


def evened(weights: np.ndarray, faces: np.ndarray, rounds: int) -> np.ndarray:
    """(P, 55) weights, each the mean with its neighbours' so many times."""
    mean = neighbour_means(faces, len(weights))
    for _ in range(rounds):
        weights = 0.5 * (weights + mean @ weights)
    return weights


def top_weights(weights: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Weights of shirts and jackets: what lies on the thighs goes with the pelvis for the most part."""
    weights = weights.copy()
    for legs in _LEGS.values():
        weights[:, _PELVIS] += _HEM_TO_PELVIS * weights[:, legs].sum(1)
        weights[:, legs] *= 1 - _HEM_TO_PELVIS
    return evened(weights, faces, 6)


def skirt_weights(weights: np.ndarray, faces: np.ndarray, template: np.ndarray) -> np.ndarray:
    """Weights of a skirt: cloth between the legs goes with both, by how far to the side it is, never with a shin."""
    top, bottom = _SKIRT_FALLS_M
    both = _smooth((top - template[:, 1]) / (top - bottom))
    trunk = weights.copy()
    for legs in _LEGS.values():
        trunk[:, legs] = 0.0
    trunk[:, _PELVIS] += 1e-3
    weights = (1 - both)[:, None] * trunk / trunk.sum(1, keepdims=True)
    left = _smooth(template[:, 0] / (2 * _SKIRT_HALF_M) + 0.5)
    for side, share in (("left", left), ("right", 1 - left)):
        weights[:, _LEGS[side][0]] = share * both
    return evened(weights, faces, 8)


def hair_weights(template: np.ndarray, chin: float) -> np.ndarray:
    """(P, 55): hair goes with the head, and below the chin (its height, metres) ever more with neck and upper back."""
    weights = np.zeros((len(template), len(TREE_JOINTS)))
    low = _smooth((chin - template[:, 1]) / _HANGS_M)
    for name, share in (("neck", 0.35 * low), ("spine3", 0.5 * low), ("head", 1 - 0.85 * low)):
        weights[:, TREE_JOINTS.index(name)] = share
    return weights


def lifted(vertices: np.ndarray, faces: np.ndarray, skin: np.ndarray, skin_faces: np.ndarray) -> np.ndarray:
    """(P, 3): cloth that lies in the skin is brought out of it, and what is around goes with it."""
    distance, near = cKDTree(skin).query(vertices)
    normals = _normals(skin, skin_faces)[near]
    height = ((vertices - skin[near]) * normals).sum(1)
    lift = np.where(distance < _SUNK_M, np.maximum(_OFF_SKIN_M - height, 0), 0)
    mean = neighbour_means(faces, len(vertices))
    for _ in range(2):
        lift = np.maximum(lift, mean @ lift)
    return vertices + lift[:, None] * normals


def _normals(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, means of the faces' by area."""
    normals = np.zeros_like(points)
    a, b, c = (points[faces[:, k]] for k in range(3))
    for k in range(3):
        np.add.at(normals, faces[:, k], np.cross(b - a, c - a))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def covered_skin(vertices: np.ndarray, faces: np.ndarray, skin: np.ndarray, skin_faces: np.ndarray) -> np.ndarray:
    """(V,) bool: skin that cloth lies over, away from the cloth's borders, in the T-pose."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), 1)
    pairs, count = np.unique(edges, axis=0, return_counts=True)
    border = pairs[count == 1]
    t = np.linspace(0, 1, 4)[:, None, None]
    border_points = ((1 - t) * vertices[border[:, 0]] + t * vertices[border[:, 1]]).reshape(-1, 3)
    shares = np.array([(a, b, 4 - a - b) for a in range(5) for b in range(5 - a)]) / 4
    cloth = np.einsum("ka,fai->kfi", shares, vertices[faces]).reshape(-1, 3)
    normals = _normals(skin, skin_faces)
    distance, near = cKDTree(cloth).query(skin)
    outward = ((cloth[near] - skin) * normals).sum(1)
    over = (distance < _COVERS_M) & (outward > 0.5 * distance) | (distance < _TOUCHES_M)
    return over & (cKDTree(border_points).query(skin)[0] > _BORDER_M)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 to 1 between 0 and 1, level at both."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)
