"""Brings sampled MakeHuman bodies from their rest pose into SMPL's T-pose with their own rig."""

import numpy as np

from scripts.build.open_body.source import People, Source

# SMPL's neutral rest joints, metres; only directions between them are used.
SMPL_REST = {
    "hip": (0.068, -0.315, 0.021),
    "knee": (0.102, -0.690, 0.017),
    "ankle": (0.088, -1.088, -0.027),
    "foot": (0.115, -1.144, 0.093),
    "neck": (0.0, 0.288, -0.015),
    "shoulder": (0.172, 0.226, -0.015),
    "elbow": (0.432, 0.213, -0.042),
    "wrist": (0.681, 0.222, -0.044),
    "hand": (0.765, 0.214, -0.059),
}
HIP_WIDTH = 0.84
SHOULDER_LIFT = 0.65
FINGER_STRAIGHTENING = 0.5


def pose_people(source: Source, people: People) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, V, 3) skin, (S, B, 3) bone heads and tails in the T-pose, metres; the origin is arbitrary."""
    turns = _bone_rotations(source, people.heads, people.tails)
    heads = _chain(source, people.heads, turns)
    skin = np.empty_like(people.vertices)
    for s, rest in enumerate(people.vertices):
        skin[s] = _unpose(source, rest, turns[s], people.heads[s], heads[s])
    tails = heads + np.einsum("sbij,sbj->sbi", turns, people.tails - people.heads)
    return 0.5 * (skin + skin[:, source.mirror] * [-1, 1, 1]), heads, tails


def smpl_direction(start: str, end: str, side: float) -> np.ndarray:
    d = np.subtract(SMPL_REST[end], SMPL_REST[start])
    return d / np.linalg.norm(d) * [side, 1, 1]


def hip_joint(at: dict[str, np.ndarray], suffix: str) -> np.ndarray:
    """A point between MakeHuman's hips, 22 cm apart, and SMPL's, 14 cm and lower; people's are 17 to 18 cm apart."""
    return (0.7 * at[f"upperleg01{suffix}"] + 0.3 * at[f"upperleg02{suffix}"]) * [HIP_WIDTH, 1, 1]


def _unpose(source: Source, rest: np.ndarray, turn: np.ndarray, head: np.ndarray, head_posed: np.ndarray) -> np.ndarray:
    """The skin that linear blend skinning takes back to `rest` when each bone returns.

    Skinning `rest` forward would crease the shoulders and elbows, and again on the way down. The inverse of the blended
    transform puts the loss where nobody is: a body with its arms down, as people stand, is the sculpted one.
    """
    back = np.swapaxes(turn, -1, -2)
    offset = head - np.einsum("bij,bj->bi", back, head_posed)
    blend = (source.weights @ np.concatenate([back.reshape(-1, 9), offset], 1)).reshape(len(rest), 12)
    return np.linalg.solve(blend[:, :9].reshape(-1, 3, 3), (rest - blend[:, 9:])[..., None])[..., 0]


def _chain(source: Source, heads: np.ndarray, turns: np.ndarray) -> np.ndarray:
    posed = np.empty_like(heads)
    for b, parent in enumerate(source.parents):
        posed[:, b] = (
            heads[:, b] if parent < 0 else posed[:, parent] + _apply(turns[:, parent], heads[:, b] - heads[:, parent])
        )
    return posed


def _bone_rotations(source: Source, heads: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """(S, B, 3, 3) rotation of each bone from the rest pose to the T-pose, in the body's axes."""
    bone = {name: b for b, name in enumerate(source.bones)}
    at = {name: heads[:, b] for name, b in bone.items()}
    chosen = _spine(at)
    for suffix, side in ((".L", 1.0), (".R", -1.0)):
        chosen |= _leg(at, suffix, side) | _arm(at, suffix, side, chosen)
        chosen |= _fingers(at, {n: tails[:, b] for n, b in bone.items()}, suffix, chosen)
    turns = np.broadcast_to(np.eye(3), (*heads.shape[:2], 3, 3)).copy()
    for name, b in bone.items():
        if name in chosen:
            turns[:, b] = chosen[name]
        elif source.parents[b] >= 0:
            turns[:, b] = turns[:, source.parents[b]]
    return turns


def _spine(at: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Leans the trunk as SMPL's leans over its hips; the neck takes the lean back, so that the face looks level."""
    trunk = at["neck01"] - 0.5 * (at["upperleg01.L"] + at["upperleg01.R"])
    wanted = np.subtract(SMPL_REST["neck"], SMPL_REST["hip"])
    lean = np.arctan2(wanted[2], wanted[1]) - np.arctan2(trunk[:, 2], trunk[:, 1])
    share = {f"spine0{i}": 1.0 for i in range(1, 6)} | {"neck01": 0.67, "neck02": 0.33, "neck03": 0.0, "head": 0.0}
    return {name: _about([1.0, 0.0, 0.0], s * lean) for name, s in share.items()}


def _leg(at: dict[str, np.ndarray], suffix: str, side: float) -> dict[str, np.ndarray]:
    socket, knee, ankle = (at[n + suffix] for n in ("upperleg01", "lowerleg01", "foot"))
    # The thigh turns in MakeHuman's socket, yet its line from the joint that the model will have is to run as in SMPL.
    hip = hip_joint(at, suffix)
    length = np.linalg.norm(knee - hip, axis=-1, keepdims=True)
    thigh = _between(knee - socket, hip + length * smpl_direction("hip", "knee", side) - socket)
    shank = _between(ankle - knee, smpl_direction("knee", "ankle", side))
    # The sole is level in both poses, so the foot only turns about the vertical.
    toes, wanted = (
        np.mean([at[f"toe{i}-1{suffix}"] for i in (1, 2, 3)], 0) - ankle,
        smpl_direction("ankle", "foot", side),
    )
    foot = _about([0.0, 1.0, 0.0], np.arctan2(wanted[0], wanted[2]) - np.arctan2(toes[:, 0], toes[:, 2]))
    return (
        {f"upperleg0{i}{suffix}": thigh for i in (1, 2)}
        | {f"lowerleg0{i}{suffix}": shank for i in (1, 2)}
        | {f"foot{suffix}": foot}
    )


def _arm(at: dict[str, np.ndarray], suffix: str, side: float, chosen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    clavicle, shoulder, elbow, wrist = (at[n + suffix] for n in ("clavicle", "upperarm01", "lowerarm01", "wrist"))
    collar = _collar(at, clavicle, shoulder, side, chosen["spine01"])
    # Elbows bend about the vertical in SMPL's T-pose, their inside to the front.
    bend = np.cross(elbow - shoulder, wrist - elbow)
    down = np.array([0.0, -side, 0.0])
    upper = _frames(elbow - shoulder, bend, smpl_direction("shoulder", "elbow", side), down)
    fore_way = smpl_direction("elbow", "wrist", side)
    fore = _frames(wrist - elbow, bend, fore_way, down)
    # Palm down, the index finger in front; half of SMPL's backward tilt, which is partly where its joint sits.
    index, middle, little = (at[f"finger{i}-1{suffix}"] for i in (2, 3, 5))
    hand_way = smpl_direction("wrist", "hand", side) * [1, 1, 0.5]
    hand = _frames(middle - wrist, little - index, hand_way, np.array([0.0, 0.0, -1.0]))
    half = _halfway(fore, hand, fore_way)
    turns = {
        "clavicle": collar,
        "shoulder01": collar,
        "upperarm01": upper,
        "upperarm02": upper,
        "lowerarm01": fore,
        "lowerarm02": half,
        "wrist": hand,
    }
    return {name + suffix: turn for name, turn in turns.items()}


def _collar(
    at: dict[str, np.ndarray], clavicle: np.ndarray, shoulder: np.ndarray, side: float, spine: np.ndarray
) -> np.ndarray:
    """Lifts the shoulder most of the way to where SMPL's is below the neck: an arm held out takes its shoulder along.

    All of the way, a body whose arms hang while its collars are at zero, as fits and retargeted clips have it, shrugs.
    """
    reach, neck = _apply(spine, shoulder - clavicle), _apply(spine, at["neck01"] - clavicle)
    slope = (SMPL_REST["neck"][1] - SMPL_REST["shoulder"][1]) / SMPL_REST["shoulder"][0]
    radius = np.hypot(reach[:, 0], reach[:, 1])
    # radius sin(a) + slope radius cos(a) = what is left of the drop below the neck
    left = (neck[:, 1] - slope * np.abs(neck[:, 0])) / radius
    wanted = np.arcsin(np.clip(left / np.hypot(1, slope), -1, 1)) - np.arctan(slope)
    lift = SHOULDER_LIFT * (wanted - np.arctan2(reach[:, 1], np.abs(reach[:, 0])))
    return _about([0.0, 0.0, 1.0], side * lift) @ spine


def _fingers(
    at: dict[str, np.ndarray], tip: dict[str, np.ndarray], suffix: str, chosen: dict[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Takes part of the curl and of the spread out of the four fingers."""
    turns, hand = {}, chosen[f"wrist{suffix}"]
    ways = {i: at[f"finger{i}-1{suffix}"] - at[f"metacarpal{i - 1}{suffix}"] for i in (2, 3, 4, 5)}
    ways = {i: way / np.linalg.norm(way, axis=-1, keepdims=True) for i, way in ways.items()}
    for finger in (2, 3, 4, 5):
        way = ways[finger] + ways[3]
        for segment in (1, 2, 3):
            name = f"finger{finger}-{segment}{suffix}"
            turns[name] = hand @ _between(tip[name] - at[name], way, FINGER_STRAIGHTENING)
    return turns


def _apply(turn: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.einsum("sij,sj->si", turn, v)


def _about(axis, angle: np.ndarray) -> np.ndarray:
    """(..., 3, 3) rotation about a unit axis, by Rodrigues' formula."""
    k = np.cross(np.eye(3), np.asarray(axis, dtype=float)[..., None, :])
    angle = np.asarray(angle)[..., None, None]
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * (k @ k)


def _between(start: np.ndarray, end: np.ndarray, part: float = 1.0) -> np.ndarray:
    """The smallest rotation from one direction to another, or part of it."""
    a, b = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in np.broadcast_arrays(start, end))
    axis = np.cross(a, b)
    sine = np.linalg.norm(axis, axis=-1, keepdims=True)
    return _about(axis / np.maximum(sine, 1e-12), part * np.arctan2(sine[..., 0], (a * b).sum(-1)))


def _frames(start: np.ndarray, start_second: np.ndarray, end: np.ndarray, end_second: np.ndarray) -> np.ndarray:
    """The rotation that takes one direction to another and a second direction as near as it can."""

    def frame(x, y):
        x = x / np.linalg.norm(x, axis=-1, keepdims=True)
        z = np.cross(x, y)
        z = z / np.linalg.norm(z, axis=-1, keepdims=True)
        return np.stack([x, np.cross(z, x), z], -1)

    return frame(end, end_second) @ np.swapaxes(frame(start, start_second), -1, -2)


def _halfway(fore: np.ndarray, hand: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """The forearm's far half takes half of the hand's twist about the forearm, as radius and ulna do."""
    relative = hand @ np.swapaxes(fore, -1, -2)
    skew = np.stack(
        [
            relative[:, 2, 1] - relative[:, 1, 2],
            relative[:, 0, 2] - relative[:, 2, 0],
            relative[:, 1, 0] - relative[:, 0, 1],
        ],
        -1,
    )
    twist = 2 * np.arctan2(skew @ axis, 1 + np.trace(relative, axis1=1, axis2=2))
    return _about(axis / np.linalg.norm(axis), 0.5 * twist) @ fore
