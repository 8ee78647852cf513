"""Bodies as binary glTF: skeleton, skin, pose and motion, as Blender, game engines and browsers play it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
from jaxtyping import Float, Int
from roma import rotmat_to_unitquat

from bodyfit.io.export.glb import VERTICES, BinaryChunk, material, write_glb
from bodyfit.io.export.rig import Rig

__all__ = ["continuous_quaternions", "save_rig_glb", "write_skinned"]

_SET = 4
"""Joints and weights that one attribute holds."""
_AT_ONCE = 4096
"""Frames turned into quaternions at a time."""
_ROUNDED = 2e-3
"""Of the error that morph targets have anyway, a part below which an offset is written as zero."""


def save_rig_glb(path: str | Path, rig: Rig, *, color: tuple[float, float, float] = (0.55, 0.76, 0.94)) -> None:
    """Write a rig as binary glTF, with an animation "motion" if it is of a clip: each frame at its own time, the first
    held before it and the last after it, as glTF's players do.

    The first V vertices are the body's, in its order; after them come those that lie on a seam of the texture again.
    color: sRGB in [0, 1]. Raises `OutputError`.
    """
    arrays = BinaryChunk()
    write_skinned(Path(path), rig, arrays, {"materials": [material(color)]}, [slice(0, len(rig.faces))])


def write_skinned(path: Path, rig: Rig, arrays: BinaryChunk, looks: dict[str, Any], parts: Sequence[slice]) -> None:
    """Write a rig as binary glTF: skeleton, skinned mesh and, of a clip, its motion.

    looks: what the document says of materials and textures, whose bytes are in `arrays`. parts: rows of the rig's
    faces, the k-th of material k. Raises `OutputError`.
    """
    joints = len(rig.names)
    quaternions = continuous_quaternions(rig.rotations)
    nodes = _joint_nodes(rig, quaternions[0])
    nodes.append({"name": path.stem, "mesh": 0, "skin": 0})
    inverse = np.tile(np.eye(4), (joints, 1, 1))
    inverse[:, :3, 3] = -rig.joints
    skin = {"name": f"{path.stem}_skeleton", "joints": list(range(joints)), "skeleton": 0}
    skin["inverseBindMatrices"] = arrays.add(inverse.astype(np.float32))
    document: dict[str, Any] = {
        "scenes": [{"nodes": [0, joints]}],
        "nodes": nodes,
        "meshes": [_mesh(rig, arrays, parts)],
        "skins": [skin],
    }
    document |= looks
    if len(rig) > 1:
        document["animations"] = [_animation(rig, quaternions, arrays)]
    write_glb(path, document, arrays, rig.placing)


def continuous_quaternions(rotations: Float[np.ndarray, "T J 3 3"]) -> Float[np.ndarray, "T J 4"]:
    """x, y, z, w of rotations over time, of the two signs the one nearer to the frame before; players interpolate."""
    parts = torch.from_numpy(rotations).split(_AT_ONCE)
    quaternions = np.concatenate([rotmat_to_unitquat(part).numpy() for part in parts])
    turned = (quaternions[1:] * quaternions[:-1]).sum(-1) < 0
    odd = np.logical_xor.accumulate(turned, 0)
    np.negative(quaternions[1:], out=quaternions[1:], where=odd[..., None])
    return quaternions


def _joint_nodes(rig: Rig, quaternions: Float[np.ndarray, "J 4"]) -> list[dict[str, Any]]:
    """The joints where they are in the first frame, each in its parent's axes."""
    positions = rig.joints - rig.joints[[max(parent, 0) for parent in rig.parents]]
    positions[0] = rig.root[0]
    nodes = []
    for j, name in enumerate(rig.names):
        node = {"name": name, "translation": positions[j].tolist(), "rotation": quaternions[j].tolist()}
        children = [k for k, parent in enumerate(rig.parents) if parent == j]
        nodes.append(node | ({"children": children} if children else {}))
    return nodes


def _mesh(rig: Rig, arrays: BinaryChunk, parts: Sequence[slice]) -> dict[str, Any]:
    corners, rows, uv = _seams(rig)
    vertices = rig.vertices.astype(np.float32)[rows]
    normals = trimesh.Trimesh(rig.vertices, rig.faces, process=False).vertex_normals.astype(np.float32)[rows]
    attributes = {
        "POSITION": arrays.add(vertices, target=VERTICES, bounds=True),
        "NORMAL": arrays.add(normals, target=VERTICES),
    }
    if uv is not None:  # glTF has v down
        attributes["TEXCOORD_0"] = arrays.add((uv * [1, -1] + [0, 1]).astype(np.float32), target=VERTICES)
    if rig.colors is not None:  # glTF wants linear light, which multiplies the material's
        linear = np.where(rig.colors <= 0.04045, rig.colors / 12.92, ((rig.colors + 0.055) / 1.055) ** 2.4)
        attributes["COLOR_0"] = arrays.add(linear.astype(np.float32)[rows], target=VERTICES)
    for i, (joints, weights) in enumerate(_influences(rig.weights)):
        attributes[f"JOINTS_{i}"] = arrays.add(joints[rows], target=VERTICES)
        attributes[f"WEIGHTS_{i}"] = arrays.add(weights[rows], target=VERTICES)
    targets: list[dict[str, int]] = []
    mesh: dict[str, Any] = {"name": "body", "primitives": []}
    if (morphs := rig.morphs) is not None:
        still = np.linalg.norm(morphs.targets, axis=2) < _ROUNDED * morphs.error_m * rig.placing.per_metre
        offsets = np.where(still[..., None], 0, morphs.targets).astype(np.float32)[:, rows]
        targets = [{"POSITION": arrays.add_sparse(offset)} for offset in offsets]
        mesh["weights"] = morphs.weights[0].tolist()
        mesh["extras"] = {"targetNames": list(morphs.names)}
    for number, part in enumerate(parts):
        indices = arrays.add_triangles(corners[part], len(rows))
        primitive: dict[str, Any] = {"attributes": attributes, "indices": indices, "material": number}
        mesh["primitives"].append(primitive | ({"targets": targets} if targets else {}))
    return mesh


def _seams(rig: Rig) -> tuple[Int[np.ndarray, "F 3"], Int[np.ndarray, "N"], Float[np.ndarray, "N 2"] | None]:
    """Corners of the faces and, for each vertex of the file, the body's vertex and the texture coordinates."""
    n = len(rig.vertices)
    if rig.uv is None or rig.uv_faces is None:
        return rig.faces, np.arange(n), None
    pairs = np.stack([rig.faces.ravel(), rig.uv_faces.ravel()], 1)
    pairs, corner = np.unique(pairs, axis=0, return_inverse=True)
    first = np.r_[True, pairs[1:, 0] != pairs[:-1, 0]]
    number = np.empty(len(pairs), np.int64)
    number[first] = pairs[first, 0]  # a vertex keeps its number, one that no face has keeps its place
    number[~first] = n + np.arange((~first).sum())
    rows, uv = np.arange(n + int((~first).sum())), np.zeros((n + int((~first).sum()), 2))
    rows[number], uv[number] = pairs[:, 0], rig.uv[pairs[:, 1]]
    return number[corner.ravel()].reshape(-1, 3), rows, uv


def _influences(weights: Float[np.ndarray, "V J"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Joints (V, 4) and weights (V, 4) in as many sets as the vertex with most joints needs, largest first."""
    sets = -(-int((weights > 0).sum(1).max()) // _SET)
    joints = np.argsort(-weights, 1, kind="stable")[:, : sets * _SET]
    values = np.take_along_axis(weights, joints, 1)
    joints = np.where(values > 0, joints, 0)  # a joint without weight must be 0
    missing = sets * _SET - joints.shape[1]
    joints, values = (np.pad(a, ((0, 0), (0, missing))) for a in (joints, values))
    return [
        (joints[:, i : i + _SET].astype(np.uint8), values[:, i : i + _SET].astype(np.float32))
        for i in range(0, sets * _SET, _SET)
    ]


def _animation(rig: Rig, quaternions: Float[np.ndarray, "T J 4"], arrays: BinaryChunk) -> dict[str, Any]:
    times = arrays.add(rig.times_s.astype(np.float32), bounds=True)
    channels: list[dict[str, Any]] = []
    samplers: list[dict[str, Any]] = []

    def play(node: int, path: str, values: np.ndarray) -> None:
        samplers.append({"input": times, "output": arrays.add(values.astype(np.float32)), "interpolation": "LINEAR"})
        channels.append({"sampler": len(samplers) - 1, "target": {"node": node, "path": path}})

    play(0, "translation", rig.root)
    for j in range(len(rig.names)):
        play(j, "rotation", quaternions[:, j])
    if rig.morphs is not None:
        play(len(rig.names), "weights", rig.morphs.weights.ravel())
    return {"name": "motion", "channels": channels, "samplers": samplers}
