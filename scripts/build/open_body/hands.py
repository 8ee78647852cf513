"""The hand: the axes its joints turn about, and a space of hand poses.

Nobody's hands were scanned. The pose space is the principal components of poses drawn from what handbooks say of hands
(`hand_poses.py`): grasps and signs as joint angles, all that lies between them, the coupling of the last two finger
joints, and noise.
"""

import numpy as np

from scripts.build.open_body.hand_poses import LEFT_FINGER_JOINTS, pose_vectors, sample_angles
from scripts.build.open_body.source import Source
from scripts.build.open_body.surface import nail_normals
from scripts.build.open_body.tree import FINGER_NUMBER

SAMPLES = 6000


def finger_axes(source: Source, skin: np.ndarray, joints: dict[str, np.ndarray]) -> np.ndarray:
    """(30, 3, 3) unit axes of flexion, abduction and twist at rest, as rows, of the left and the right finger joints.

    From mean skin (V, 3) and left joints (3,): the twist axis runs along the bone, the flexion axis along the nail.
    """
    nails = nail_normals(source, skin)
    axes = np.zeros((len(LEFT_FINGER_JOINTS), 3, 3))
    for j, name in enumerate(LEFT_FINGER_JOINTS):
        finger, k = name[5:-1], int(name[-1])
        tip = joints[f"left_{finger}_tip"]
        after = joints[f"left_{finger}{k + 1}"] if k < 3 else tip
        way = after - joints[name]
        way /= np.linalg.norm(way)
        flexion = np.cross(nails[FINGER_NUMBER[finger]], way)
        flexion /= np.linalg.norm(flexion)
        axes[j] = flexion, np.cross(flexion, way), way
    return np.concatenate([axes, axes * [1, -1, -1]])


def hand_space(axes: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The arrays hands_mean*, hands_components* and hands_sd* of the file, for l and r; the right mirrors the left."""
    vectors = pose_vectors(sample_angles(SAMPLES, np.random.default_rng(seed)), axes[: len(LEFT_FINGER_JOINTS)])
    flat = vectors.reshape(len(vectors), -1)
    mean = flat.mean(0)
    variances, components = np.linalg.eigh(np.cov(flat.T))
    variances, components = variances[::-1], components.T[::-1].copy()
    flexion = axes[: len(LEFT_FINGER_JOINTS), 0].ravel()
    for component in components:  # positive curls
        component *= np.sign(component @ flexion)
    flip = np.tile([1.0, -1.0, -1.0], len(LEFT_FINGER_JOINTS))
    deviations = np.sqrt(variances)
    return {
        "hands_meanl": mean, "hands_meanr": flip * mean,
        "hands_componentsl": components, "hands_componentsr": flip * components,
        "hands_sdl": deviations, "hands_sdr": deviations,
    }  # fmt: skip
