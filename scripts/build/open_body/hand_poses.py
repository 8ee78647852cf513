"""How far the joints of a hand turn, and poses of hands, as angles: what handbooks and taxonomies say, in numbers.

Angles are flexion, abduction and twist. Flexion curls a finger or thumb to its palm side. Abduction leads a finger to
the thumb's side, and the thumb away from the index finger. They compose as in the joint coordinate system of the
International Society of Biomechanics (Wu et al., J. Biomech. 38, 2005): R = R_flexion R_abduction R_twist, with
flexion about an axis of the bone before and twist about the length of the bone after.
"""

import numpy as np
from scipy.spatial.transform import Rotation

FINGERS = ("index", "middle", "pinky", "ring", "thumb")
LEFT_FINGER_JOINTS = tuple(f"left_{finger}{k}" for finger in FINGERS for k in (1, 2, 3))

# Ranges of active motion, degrees from a straight finger. American Academy of Orthopaedic Surgeons, Joint Motion, 1965:
# knuckles (MCP) to 90, PIP 100 to 110, DIP 80 to 90; thumb MCP to 50, IP to 80; MCP extension 30 to 45. Sideways at
# the knuckle 20 each way, less when bent (Kapandji, The Physiology of the Joints, vol. 1). Thumb saddle joint: flexion
# and extension 53, palmar and radial abduction 42, twist 17 in all (Cooney et al., J. Bone Joint Surg. 63-A, 1981).
RANGES_DEG = {
    "finger1": ((-30, 90), (-20, 20), (-5, 5)),
    "finger2": ((0, 110), (-2, 2), (-3, 3)),
    "finger3": ((0, 80), (-2, 2), (-3, 3)),
    "thumb1": ((-20, 40), (-25, 25), (-10, 30)),
    "thumb2": ((-10, 60), (-8, 8), (-5, 5)),
    "thumb3": ((-10, 80), (-2, 2), (-3, 3)),
}
# The template's hand is flat but not quite: so far is it bent already, measured along MakeHuman's bones.
REST_DEG = {"finger1": 10.0, "finger2": 5.0, "finger3": 4.0, "thumb1": 0.0, "thumb2": 9.0, "thumb3": 9.0}


def joint_kind(name: str) -> str:
    """Which row of the tables above is a finger joint's."""
    finger = name.split("_")[1]
    return finger if finger.startswith("thumb") else f"finger{finger[-1]}"


def finger_limits() -> np.ndarray:
    """(30, 3, 2) least and largest flexion, abduction and twist from the template's pose, radians."""
    limits = np.zeros((len(LEFT_FINGER_JOINTS), 3, 2))
    for j, name in enumerate(LEFT_FINGER_JOINTS):
        limits[j] = RANGES_DEG[joint_kind(name)]
        limits[j, 0] -= REST_DEG[joint_kind(name)]
    return np.radians(np.concatenate([limits, limits]))


def pose_vectors(angles: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """(N, J, 3) rotation vectors from (N, J, 3) radians of flexion, abduction, twist about (J, 3, 3) axes."""
    turn = Rotation.identity(angles[..., 0].size)
    for k in range(3):
        turn = turn * Rotation.from_rotvec((angles[..., k, None] * axes[:, k]).reshape(-1, 3))
    return turn.as_rotvec().reshape(angles.shape)


# Poses in degrees. Four fingers from the index: knuckle flexion, PIP flexion, abduction from the template's slight
# spread (DIP follows as two thirds of PIP); thumb: saddle flexion, abduction, twist, MCP flexion, IP flexion. After the
# grasp taxonomies of Napier (J. Bone Joint Surg. 38-B, 1956), Cutkosky (IEEE Trans. Robotics Autom. 5, 1989) and
# Feix et al. (IEEE Trans. Human-Mach. Syst. 46, 2016), finger spelling and counting. The first number is how often.
# The last degrees were found by keeping fingers, as capsules, from running more than 1.5 mm into another or the palm.
POSES_DEG = {
    "relaxed": (6, ((25, 35, -4), (30, 38, 0), (32, 40, 3), (34, 40, 7)), (8, 0, 4, 14, 16)),
    "loose": (4, ((15, 22, -3), (18, 25, 0), (20, 27, 2), (22, 26, 5)), (3, -4, 2, 10, 10)),
    "flat": (3, ((10, 5, -9), (10, 5, 0), (10, 5, 4), (10, 5, 10)), (-4, -18, 0, 4, 4)),
    "spread": (2, ((0, 0, 8), (0, 0, 2), (0, 0, -6), (0, 0, -9)), (-15, 15, 0, -4, -4)),
    "fist": (4, ((85, 103, 0), (87, 101, -2), (85, 106, 3), (85, 99, 5)), (17, 11, 3, 38, 45)),
    "pointing": (2, ((12, 8, -3), (81, 96, 0), (83, 96, 3), (84, 95, 8)), (19, 10, 9, 34, 39)),
    "pinch": (2, ((48, 48, -6), (38, 34, 0), (30, 28, 2), (26, 26, 5)), (21, 6, 14, 22, 30)),
    "tripod": (2, ((50, 48, -2), (54, 52, 1), (58, 60, 3), (58, 60, 8)), (30, 9, 16, 20, 26)),
    "key": (2, ((49, 68, -3), (58, 78, -2), (62, 82, 3), (62, 78, 9)), (2, -12, 2, 28, 36)),
    "hook": (2, ((14, 85, -6), (14, 88, 0), (14, 88, 4), (14, 84, 9)), (2, -12, 2, 12, 14)),
    "cylinder": (3, ((50, 50, -2), (54, 54, 0), (56, 56, 3), (56, 54, 6)), (22, 18, 14, 18, 26)),
    "sphere": (3, ((32, 38, 4), (36, 42, 1), (38, 44, -3), (36, 42, -5)), (16, 20, 12, 12, 18)),
    "paddle": (2, ((74, 12, -1), (75, 12, -1), (75, 12, 3), (75, 12, 9)), (14, 6, 10, 10, 10)),
    "thumb up": (2, ((79, 93, 1), (80, 96, -1), (84, 95, 3), (83, 97, 9)), (-16, -8, 0, -4, -6)),
    "two": (1.5, ((8, 5, 4), (8, 5, -4), (82, 96, 4), (82, 94, 8)), (28, 10, 12, 37, 38)),
    "three": (1, ((6, 5, 6), (6, 5, 1), (8, 6, -3), (78, 92, 6)), (34, 2, 16, 40, 40)),
    "four": (1, ((6, 5, 4), (6, 5, 1), (6, 5, -3), (8, 6, -5)), (36, -2, 16, 40, 36)),
    "gun": (1, ((10, 6, -2), (80, 96, 1), (83, 96, 4), (84, 95, 8)), (-14, 2, 0, -2, -4)),
    "horns": (0.5, ((8, 5, 0), (82, 96, -1), (83, 97, 2), (14, 10, 0)), (17, 14, 13, 38, 42)),
    "phone": (0.5, ((79, 94, -1), (81, 97, -3), (84, 96, 1), (10, 8, -3)), (-14, 13, 1, -2, -4)),
}
COUPLING = 2 / 3  # of DIP to PIP: one tendon bends both (Rijpkema and Girard, SIGGRAPH 1991)


def pose_angles(name: str) -> np.ndarray:
    """(15, 3) angles of a named pose from the template, radians, in the order of the left finger joints."""
    _, fingers, thumb = POSES_DEG[name]
    angles = np.zeros((len(LEFT_FINGER_JOINTS), 3))
    for finger, (knuckle, middle, aside) in zip(("index", "middle", "ring", "pinky"), fingers, strict=True):
        row = LEFT_FINGER_JOINTS.index(f"left_{finger}1")
        angles[row, :2] = knuckle, aside
        angles[row + 1 : row + 3, 0] = middle, COUPLING * middle
    row = LEFT_FINGER_JOINTS.index("left_thumb1")
    angles[row], angles[row + 1, 0], angles[row + 2, 0] = thumb[:3], thumb[3], thumb[4]
    angles[:, 0] -= [REST_DEG[joint_kind(n)] for n in LEFT_FINGER_JOINTS]
    return np.radians(angles)


def sample_angles(count: int, rng: np.random.Generator) -> np.ndarray:
    """(N, 15, 3) angles: points between two poses, or three, each finger a little ahead or behind, with noise."""
    names = list(POSES_DEG)
    poses = np.stack([pose_angles(n) for n in names])
    chance = np.array([POSES_DEG[n][0] for n in names], dtype=float)
    start, end = rng.choice(len(names), (2, count), p=chance / chance.sum())
    digit = np.array([FINGERS.index(n[5:-1]) for n in LEFT_FINGER_JOINTS])
    part = rng.beta(0.5, 0.5, (count, 1)) + rng.normal(0, 0.12, (count, len(FINGERS)))
    part = np.clip(part, 0, 1)[:, digit, None]
    angles = (1 - part) * poses[start] + part * poses[end]
    kind = [joint_kind(n) for n in LEFT_FINGER_JOINTS]
    spread = np.radians([NOISE_DEG[k] for k in kind])
    angles += spread * rng.standard_normal(angles.shape)
    # What the middle joint does beyond the pose, the last does in part.
    middle = np.array([k == "finger2" for k in kind])
    extra = spread[middle, 0] * rng.standard_normal((count, middle.sum()))
    angles[:, middle, 0] += extra
    angles[:, np.roll(middle, 1), 0] += COUPLING * extra
    limits = finger_limits()[: len(kind)]
    return np.clip(angles, limits[..., 0], limits[..., 1])


# Standard deviations of flexion, abduction and twist about the poses, degrees.
NOISE_DEG = {
    "finger1": (6.0, 2.5, 1.0), "finger2": (5.0, 0.4, 0.4), "finger3": (3.0, 0.4, 0.4),
    "thumb1": (4.0, 4.0, 3.0), "thumb2": (6.0, 1.5, 1.0), "thumb3": (7.0, 0.4, 0.4),
}  # fmt: skip
