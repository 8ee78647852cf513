"""What the bench of the pose shapes measures: posing with and without them, volume, edges, self-intersection."""

import numba
import numpy as np
from scipy.spatial.transform import Rotation

from scripts.build.pose_shapes.joints import parents
from scripts.build.pose_shapes.solve import Body


def pose_body(body: Body, turns: dict[str, np.ndarray], shapes: dict[str, np.ndarray] | None) -> np.ndarray:
    """(V, 3) skinned; `turns` are rotation vectors in radians by joint, `shapes` the arrays of the file or none."""
    R = {name: Rotation.from_rotvec(turn).as_matrix() for name, turn in turns.items()}
    rest = body.vertices.copy()
    if shapes is not None:
        features = np.zeros((len(body.names), 9))
        for name, turn in R.items():
            features[body.names.index(name)] = (turn - np.eye(3)).ravel()
        moves = np.einsum("nca,na->nc", shapes["posedirs_block"], features[shapes["posedirs_joint"]])
        np.add.at(rest, shapes["posedirs_vertex"], moves)
    posed = np.zeros_like(rest)
    world: list[tuple[np.ndarray, np.ndarray]] = []
    for j, (name, parent) in enumerate(zip(body.names, body.parents, strict=True)):
        up, at = world[parent] if parent >= 0 else (np.eye(3), body.joints[j])
        bone = body.joints[j] - body.joints[parent] if parent >= 0 else np.zeros(3)
        world.append((up @ R.get(name, np.eye(3)), at + up @ bone))
        if j >= body.weights.shape[1]:  # the small tree's hand, whose fingers hold its weights
            continue
        moved = np.flatnonzero(body.weights[:, j])
        turned = (rest[moved] - body.joints[j]) @ world[j][0].T + world[j][1]
        posed[moved] += body.weights[moved, j : j + 1] * turned
    return posed


def small_tree(body: Body, shapes: dict[str, np.ndarray]) -> tuple[Body, dict[str, np.ndarray]]:
    """The body with SMPL's 24 joints: fingers in the hand, thumb in the wrist, jaw and eyes in the head."""
    names = (*body.names[:22], "left_hand", "right_hand")
    weights = np.zeros((len(body.vertices), len(names)))
    for j, name in enumerate(body.names[: body.weights.shape[1]]):
        side, _, part = name.partition("_")
        finger = f"{side}_{'wrist' if part.startswith('thumb') else 'hand'}" if part[-1:] in "123" and part else "head"
        weights[:, names.index(name if name in names else finger)] += body.weights[:, j]
    place = np.array([names.index(name) if name in names else -1 for name in body.names])
    kept = place[shapes["posedirs_joint"]] >= 0
    few = {key: array[kept] for key, array in shapes.items()}
    few["posedirs_joint"] = place[few["posedirs_joint"]]
    joints = body.joints[[body.names.index(name) for name in names]]
    return Body(body.vertices, body.faces, weights, body.mirror, names, parents(names), joints), few


def volume(vertices: np.ndarray, faces: np.ndarray) -> float:
    """Cubic centimetres inside a closed surface; a part that is inside twice counts twice."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6 * 1e6)


def unique_edges(faces: np.ndarray) -> np.ndarray:
    """(E, 2)"""
    return np.unique(np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0)


def edge_strain(vertices: np.ndarray, rest: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """(E,) how much longer or shorter, as a part of the rest length."""
    now, before = (np.linalg.norm(v[edges[:, 0]] - v[edges[:, 1]], axis=1) for v in (vertices, rest))
    return np.abs(now / before - 1)


def crossing(vertices: np.ndarray, faces: np.ndarray, cell_m: float = 0.02) -> np.ndarray:
    """(F,) which faces cut another with which they share no vertex."""
    corners = vertices[faces]
    low, high = corners.min(1), corners.max(1)
    first = np.floor((low - low.min(0)) / cell_m).astype(np.int64)
    last = np.floor((high - low.min(0)) / cell_m).astype(np.int64)
    size = last.max(0) + 1
    spans = (last - first + 1).prod(1)
    owner = np.repeat(np.arange(len(faces)), spans)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(spans) - spans, spans)
    extent = (last - first + 1)[owner]
    place = np.stack(
        [step // (extent[:, 1] * extent[:, 2]), step // extent[:, 2] % extent[:, 1], step % extent[:, 2]], 1
    )
    place += first[owner]
    keys = (place[:, 0] * size[1] + place[:, 1]) * size[2] + place[:, 2]
    order = np.argsort(keys, kind="stable")
    hit = np.zeros(len(faces), dtype=np.bool_)
    _pairs(keys[order], owner[order], faces, corners, low, high, hit)
    return hit


@numba.njit(cache=True)
def _pairs(keys, owner, faces, corners, low, high, hit):
    start = 0
    while start < len(keys):
        end = start
        while end < len(keys) and keys[end] == keys[start]:
            end += 1
        for i in range(start, end):
            a = owner[i]
            for k in range(i + 1, end):
                b = owner[k]
                if hit[a] and hit[b]:
                    continue
                apart = False
                for c in range(3):
                    apart |= low[a, c] > high[b, c] or low[b, c] > high[a, c]
                for c in range(3):
                    for d in range(3):
                        apart |= faces[a, c] == faces[b, d]
                if not apart and (_edges_cut(corners[a], corners[b]) or _edges_cut(corners[b], corners[a])):
                    hit[a] = True
                    hit[b] = True
        start = end


@numba.njit(cache=True)
def _edges_cut(edges, triangle):
    """Whether an edge of the one goes through the other (Moller and Trumbore 1997)."""
    e1, e2 = triangle[1] - triangle[0], triangle[2] - triangle[0]
    for k in range(3):
        origin, way = edges[k], edges[(k + 1) % 3] - edges[k]
        p = np.cross(way, e2)
        det = (e1 * p).sum()
        if abs(det) < 1e-18:
            continue
        s = origin - triangle[0]
        u = (s * p).sum() / det
        if u < 0.0 or u > 1.0:
            continue
        q = np.cross(s, e1)
        v = (way * q).sum() / det
        t = (e2 * q).sum() / det
        if v >= 0.0 and u + v <= 1.0 and 0.0 <= t <= 1.0:
            return True
    return False
