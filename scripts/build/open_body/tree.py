"""SMPL-X's tree over the 24 joints of SMPL: where jaw, eyes and fingers turn, what they move, how they follow the skin.

The 24-joint body stays as it is. A new joint takes its skinning weights out of the one joint that SMPL has in its
place (`merged_joint`), so that adding them up again gives SMPL's weights.
"""

import numpy as np

from scripts.build.open_body.hand_poses import FINGERS, LEFT_FINGER_JOINTS
from scripts.build.open_body.rig import JOINTS, regress_point
from scripts.build.open_body.source import Source
from scripts.build.open_body.surface import nail_normals, skin_point

# MakeHuman counts its fingers from the thumb.
FINGER_NUMBER = {"thumb": 1, "index": 2, "middle": 3, "ring": 4, "pinky": 5}
FINGER_JOINTS = LEFT_FINGER_JOINTS + tuple(name.replace("left", "right") for name in LEFT_FINGER_JOINTS)
EYES = ("left_eye_smplhf", "right_eye_smplhf")
TREE_JOINTS = (*JOINTS[:22], "jaw", *EYES, *FINGER_JOINTS)
ALL_JOINTS = (*TREE_JOINTS, "left_hand", "right_hand")
MOST_JOINTS_A_VERTEX = 6
LEAST_WEIGHT = 1e-3
EYEBALLS = 13380  # numbers of base.obj from here on
# MakeHuman bends its fingers at the web; the knuckles lie a centimetre nearer the wrist, halfway from the wrist to the
# fingertip. Its thumb starts in the middle of the metacarpal: the saddle joint lies nearer the wrist, 4 cm before the
# thumb's knuckle.
KNUCKLE_SETBACK = 0.15
THUMB_SETBACK = 0.25
# MakeHuman's finger bones run close under the back of the finger. A joint turns about the head of a bone: this part of
# the way from the skin of the back to that of the palm.
FINGER_DEPTH = {1: 0.36, 2: 0.42, 3: 0.42}
THUMB_DEPTH = {2: 0.45, 3: 0.42}
# MakeHuman's jaw turns in the ear canal. The jaw joint lies before it, and as the jaw opens it glides on, forward and
# down: this part of the way to the chin is a fixed axis that stands for both.
JAW_FORWARD = 0.1


def merged_joint(name: str) -> str:
    """The one of SMPL's 24 joints that moves what this joint moves."""
    if name == "jaw" or name in EYES:
        return "head"
    side, _, rest = name.partition("_")
    if rest[:-1] in FINGERS:
        return f"{side}_{'wrist' if rest[:-1] == 'thumb' else 'hand'}"
    return name


def mirrored_joints(names: tuple[str, ...]) -> np.ndarray:
    """Number of the joint on the other side."""
    swap = {"left": "right", "right": "left"}
    return np.array([names.index("_".join(swap.get(p, p) for p in name.split("_"))) for name in names])


def detail_positions(source: Source, skin: np.ndarray, heads: np.ndarray, tails: np.ndarray) -> dict[str, np.ndarray]:
    """(S, 3) places of the jaw, left eye and left finger joints, from skin (S, V, 3) and bone ends (S, B, 3)."""
    at = {name: heads[:, b] for b, name in enumerate(source.bones)}
    chin = tails[:, source.bones.index("jaw")]
    out = {"jaw": at["jaw"] + JAW_FORWARD * (chin - at["jaw"])}
    eyeball = (source.base_index >= EYEBALLS) & (skin.mean(0)[:, 0] > 0)
    out[EYES[0]] = _sphere_centres(skin[:, eyeball])
    nails = nail_normals(source, skin.mean(0))
    for finger in FINGERS:
        number = FINGER_NUMBER[finger]
        bone = {k: at[f"finger{number}-{k}.L"] for k in (1, 2, 3)}
        back = at["wrist.L"] if finger == "thumb" else at[f"metacarpal{number - 1}.L"]
        bone[1] = bone[1] + (THUMB_SETBACK if finger == "thumb" else KNUCKLE_SETBACK) * (back - bone[1])
        bone[4] = tails[:, source.bones.index(f"finger{number}-3.L")]
        depth = THUMB_DEPTH if finger == "thumb" else FINGER_DEPTH
        for k in (1, 2, 3):
            way = (bone[k + 1] - bone[max(k - 1, 1)]).mean(0)
            place = bone[k]
            if k in depth:
                place = _at_depth(source, skin, place, _across(nails[number], way), depth[k])
                if k > 1:
                    place = _at_depth(source, skin, place, _across(np.cross(way, nails[number]), way), 0.5)
            out[f"left_{finger}{k}"] = place
    return out


def _sphere_centres(points: np.ndarray) -> np.ndarray:
    """(S, 3) centres of the spheres nearest to (S, P, 3) points, by linear least squares."""
    system = np.concatenate([2 * points, np.ones((*points.shape[:2], 1))], -1)
    normal = np.swapaxes(system, 1, 2)
    return np.linalg.solve(normal @ system, normal @ (points**2).sum(-1, keepdims=True))[:, :3, 0]


def _across(normal: np.ndarray, way: np.ndarray) -> np.ndarray:
    way = way / np.linalg.norm(way)
    out = normal - (normal @ way) * way
    return out / np.linalg.norm(out)


def _at_depth(source: Source, skin: np.ndarray, place: np.ndarray, outward: np.ndarray, part: float) -> np.ndarray:
    """Moves (S, 3) places along a direction to a part of the way from the skin there to the skin opposite."""
    middle = place.mean(0)
    out, back = (skin_point(source, skin, middle, way) for way in (outward, -outward))
    here, top, bottom = ((p @ outward)[:, None] for p in (place, out, back))
    return place + (top + part * (bottom - top) - here) * outward


def tree_weights(source: Source, body_weights: np.ndarray, jaw: np.ndarray, left: np.ndarray) -> np.ndarray:
    """(V, 55) from SMPL's (V, 24): fingers by the rig's shares, the jaw by its share of the head, eyeballs rigid.

    `jaw` (V,) in [0, 1], `left` (V,) which vertices are on the left.
    """
    at = TREE_JOINTS.index
    weights = np.zeros((len(body_weights), len(TREE_JOINTS)))
    weights[:, :22] = body_weights[:, :22]
    for side, suffix in (("left", ".L"), ("right", ".R")):
        rig = {}
        for name in (n for n in FINGER_JOINTS if n.startswith(side)):
            bone = f"finger{FINGER_NUMBER[name.split('_')[1][:-1]]}-{name[-1]}{suffix}"
            rig[name] = source.weights[:, [source.bones.index(bone)]].toarray()[:, 0]
        fingers = [n for n in rig if merged_joint(n).endswith("hand")]
        total = np.sum([rig[n] for n in fingers], 0)
        for name in fingers:
            weights[:, at(name)] = body_weights[:, JOINTS.index(f"{side}_hand")] * rig[name] / np.maximum(total, 1e-12)
        wrist = weights[:, at(f"{side}_wrist")]
        for name in (n for n in rig if n not in fingers):
            weights[:, at(name)] = np.minimum(rig[name], wrist)
            wrist -= weights[:, at(name)]
        eyeball = (source.base_index >= EYEBALLS) & (left if side == "left" else ~left)
        weights[eyeball] = 0.0
        weights[eyeball, at(EYES[side == "right"])] = 1.0
    weights[:, at("jaw")] = jaw * weights[:, at("head")]
    weights[:, at("head")] -= weights[:, at("jaw")]
    weights = _pruned(weights)
    return 0.5 * (weights + weights[source.mirror][:, mirrored_joints(TREE_JOINTS)])


def merged_weights(weights: np.ndarray) -> np.ndarray:
    """(V, 24) SMPL's weights from (V, 55)."""
    out = np.zeros((len(weights), len(JOINTS)))
    for j, name in enumerate(TREE_JOINTS):
        out[:, JOINTS.index(merged_joint(name))] += weights[:, j]
    return out


def _pruned(weights: np.ndarray) -> np.ndarray:
    """Gives what is small, or too many for a vertex, to the vertex's largest joint that SMPL has merged with it."""
    order = np.argsort(-weights, 1, kind="stable")
    rank = np.argsort(order, 1, kind="stable")
    small = (weights > 0) & ((weights < LEAST_WEIGHT) | (rank >= MOST_JOINTS_A_VERTEX))
    group = np.array([JOINTS.index(merged_joint(name)) for name in TREE_JOINTS])
    weights = weights.copy()
    for v, j in zip(*np.nonzero(small), strict=True):
        kin = np.flatnonzero((group == group[j]) & ~small[v] & (weights[v] > 0))
        if len(kin):
            weights[v, kin[weights[v, kin].argmax()]] += weights[v, j]
        weights[v, j] = 0.0
    return weights / weights.sum(1, keepdims=True)


def tree_regressor(
    source: Source, skin: np.ndarray, places: dict[str, np.ndarray], weights: np.ndarray, body_rows: np.ndarray
) -> np.ndarray:
    """(57, V): SMPL's 24 rows as they are; rows as theirs for the new joints, from their (S, 3) places."""
    rows = np.zeros((len(ALL_JOINTS), skin.shape[1]))
    rows[[ALL_JOINTS.index(name) for name in JOINTS]] = body_rows
    other = mirrored_joints(ALL_JOINTS)
    for name, place in places.items():
        j = ALL_JOINTS.index(name)
        if name == "jaw":  # from what no expression moves: the temples, the ears, the nape
            behind = skin.mean(0)[:, 2] < place[:, 2].mean() + 0.015
            still = behind & (weights[:, j] < 0.1) & (weights[:, ALL_JOINTS.index("head")] > 0.3)
            rows[j] = regress_point(skin, place, np.flatnonzero(still), source.mirror, 60)
            continue
        if name in EYES:
            near = [j]
        else:
            before = f"{name[:-1]}{int(name[-1]) - 1}" if name[-1] != "1" else "left_wrist"
            near = [j, ALL_JOINTS.index(before)]
        allowed = np.flatnonzero(weights[:, near].sum(1) > 0.4)
        rows[j] = regress_point(skin, place, allowed, None, 40, reach=0.006, pull=0.002, candidates=40)
        rows[other[j]] = rows[j][source.mirror]
    return rows
