"""Turns MakeHuman's 163 bones into SMPL's 24 joints: where each sits, how it follows from the skin, what it moves."""

import numpy as np
import scipy.optimize

from scripts.build.open_body.pose import hip_joint
from scripts.build.open_body.source import Source

JOINTS = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle",
    "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hand", "right_hand",
)  # fmt: skip
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
PELVIS_M = (0.0, -0.2233, 0.0282)
MOST_VERTICES_A_JOINT = 60
MOST_BONES_A_VERTEX = 8
# Heights of SMPL's joints along the line from between the hips to the neck, and half the height over which skin
# changes hands there.
TRUNK_LEVEL = {"pelvis": 0.153, "spine1": 0.333, "spine2": 0.557, "spine3": 0.645}
TRUNK_BLEND = {"spine1": 0.16, "spine2": 0.13, "spine3": 0.13}
# Bones by the stem of their name; a bone not named here goes with its nearest named ancestor. The thumb stays with the
# palm: so far from the hand's joint, it would tear from the palm as that bends.
TRUNK_BONES = ("root", "pelvis", "spine05", "spine04", "spine03", "spine02", "spine01")
LIMB_BONES = {
    "upperleg01": "hip", "lowerleg01": "knee", "foot": "ankle", **{f"toe{i}-1": "foot" for i in range(1, 6)},
    "neck01": "neck", "head": "head", "clavicle": "collar", "upperarm01": "shoulder", "lowerarm01": "elbow",
    "wrist": "wrist", "finger1-1": "wrist",
    **{f"finger{i}-1": "hand" for i in range(2, 6)}, "breast": "spine3",
}  # fmt: skip


def joint_positions(source: Source, heads: np.ndarray) -> np.ndarray:
    """(S, B, 3) posed bone heads -> (S, 24, 3): where SMPL's joints sit, as fixed mixtures of bone heads."""
    at = {name: heads[:, b] for b, name in enumerate(source.bones)}
    out = {"neck": at["neck01"], "head": 0.5 * (at["neck03"] + at["head"])}
    for suffix, side in ((".L", "left_"), (".R", "right_")):
        clavicle, shoulder, wrist = (at[n + suffix] for n in ("clavicle", "upperarm01", "wrist"))
        out |= {
            f"{side}hip": hip_joint(at, suffix),
            f"{side}knee": at[f"lowerleg01{suffix}"],
            f"{side}ankle": at[f"foot{suffix}"],
            f"{side}foot": np.mean([at[f"toe{i}-1{suffix}"] for i in (1, 2, 3)], 0),
            f"{side}collar": 0.6 * clavicle + 0.4 * shoulder,
            f"{side}shoulder": shoulder,
            f"{side}elbow": at[f"lowerarm01{suffix}"],
            f"{side}wrist": wrist,
            f"{side}hand": 0.15 * wrist + 0.85 * at[f"finger3-1{suffix}"],
        }
    hips = 0.5 * (out["left_hip"] + out["right_hip"])
    out |= {name: hips + level * (out["neck"] - hips) for name, level in TRUNK_LEVEL.items()}
    return np.stack([out[name] for name in JOINTS], 1)


def skinning_weights(source: Source, skin: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """(V, 24) from the rig's weights; the trunk's share is dealt out anew, by height, among pelvis and spine."""
    weights = np.zeros((len(skin), len(JOINTS)))
    for b in range(len(source.bones)):
        weights[:, _joint_of(source, b)] += source.weights[:, b].toarray()[:, 0]
    trunk = weights[:, 0].copy()
    weights[:, 0] = 0.0
    hips, neck = joints[1:3].mean(0), joints[JOINTS.index("neck")]
    level = (skin - hips) @ (neck - hips) / ((neck - hips) @ (neck - hips))
    above = (
        [np.ones(len(skin))]
        + [_step((level - TRUNK_LEVEL[n]) / TRUNK_BLEND[n]) for n in TRUNK_BLEND]
        + [np.zeros(len(skin))]
    )
    for name, share, rest in zip(TRUNK_LEVEL, above[:-1], above[1:], strict=True):
        weights[:, JOINTS.index(name)] += trunk * (share - rest)
    smallest = np.sort(weights, 1)[:, [-MOST_BONES_A_VERTEX]]
    weights[weights < np.maximum(smallest, 1e-3)] = 0.0
    weights = 0.5 * (weights + weights[source.mirror][:, joint_mirror()])
    return weights / weights.sum(1, keepdims=True)


def joint_mirror() -> np.ndarray:
    swap = {"left": "right", "right": "left"}
    return np.array([JOINTS.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in JOINTS])


def regress_joints(source: Source, skin: np.ndarray, joints: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(24, V) non-negative rows that sum to one, fitted to the (S, 24, 3) joints over the (S, V, 3) bodies."""
    rows = np.zeros((len(JOINTS), skin.shape[1]))
    for j, name in enumerate(JOINTS):
        if name.startswith("right"):
            continue
        tree = {j, *(k for k, p in enumerate(PARENTS) if p == j), PARENTS[j]}
        allowed = np.flatnonzero(weights[:, [k for k in tree if k >= 0]].sum(1) > 0.3)
        allowed = allowed[source.base_index[allowed] < 13380]  # no eyeballs
        rows[j] = regress_point(
            skin, joints[:, j], allowed, source.mirror if not name.startswith("left") else None, MOST_VERTICES_A_JOINT
        )
    other = joint_mirror()
    right = [j for j, name in enumerate(JOINTS) if name.startswith("right")]
    rows[right] = rows[other[right]][:, source.mirror]
    return rows


def regress_point(
    skin: np.ndarray,
    point: np.ndarray,
    allowed: np.ndarray,
    mirror: np.ndarray | None,
    most: int,
    reach: float = 0.05,
    pull: float = 0.004,
    candidates: int | None = None,
) -> np.ndarray:
    """(V,) weights of the near vertices that reproduce the (S, 3) point.

    With `mirror`, the weights are left-right symmetric. `reach` (metres) widens the neighbourhood
    beyond that of the 60 nearest vertices; `pull` (metres) is how hard weights are drawn to be alike;
    `candidates` are how many vertices are tried, four times `most` by default.
    """
    near = _spread(skin.mean(0), allowed, point.mean(0), candidates or 4 * most, reach)
    columns = skin[:, near] if mirror is None else 0.5 * (skin[:, near] + skin[:, mirror[near]])
    system = (columns - point[:, None]).transpose(0, 2, 1).reshape(-1, len(near))
    # Sum to one, weighted well above errors of a millimetre; a slight pull to many small weights rather than few large.
    size = np.sqrt(len(system))
    system = np.concatenate([system, np.full((1, len(near)), 10 * size), pull * size * np.eye(len(near))])
    target = np.zeros(len(system))
    target[len(target) - len(near) - 1] = 10 * size
    gram, right = system.T @ system, system.T @ target
    chosen = np.arange(len(near))
    budget = most if mirror is None else most // 2
    for _ in range(2):  # the second time with the largest weights only
        factor = np.linalg.cholesky(gram[np.ix_(chosen, chosen)])
        found, _ = scipy.optimize.nnls(factor.T, np.linalg.solve(factor, right[chosen]))
        keep = np.argsort(-found, kind="stable")[:budget]
        keep = keep[found[keep] > 1e-3]
        chosen, found = chosen[keep], found[keep]
    row = np.zeros(skin.shape[1])
    np.add.at(row, near[chosen], found / found.sum())
    return row if mirror is None else 0.5 * (row + row[mirror])


def _spread(mean: np.ndarray, allowed: np.ndarray, centre: np.ndarray, count: int, reach: float) -> np.ndarray:
    """About `count` of the vertices around a joint, from all directions rather than from where the mesh is densest."""
    offset = mean[allowed] - centre
    distance = np.linalg.norm(offset, axis=1)
    inside = distance < 1.6 * np.quantile(distance, min(1.0, 60 / len(distance))) + reach
    allowed, offset, distance = allowed[inside], offset[inside], distance[inside]
    if len(allowed) <= count:
        return allowed
    picked, gap = [int(distance.argmin())], np.full(len(allowed), np.inf)
    while len(picked) < count:
        gap = np.minimum(gap, np.linalg.norm(offset - offset[picked[-1]], axis=1))
        picked.append(int(gap.argmax()))
    return allowed[np.sort(picked)]


def _joint_of(source: Source, bone: int) -> int:
    while True:
        stem, _, suffix = source.bones[bone].partition(".")
        if stem in TRUNK_BONES:
            return 0
        if stem in LIMB_BONES:
            side = {"L": "left_", "R": "right_", "": ""}[suffix]
            name = LIMB_BONES[stem]
            return JOINTS.index(name if name in JOINTS else side + name)
        bone = source.parents[bone]


def _step(x: np.ndarray) -> np.ndarray:
    t = np.clip(0.5 * (x + 1), 0, 1)
    return t * t * (3 - 2 * t)
