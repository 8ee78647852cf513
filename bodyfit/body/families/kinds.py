"""List the model families: their joints, and which parameters turn which joints."""

from __future__ import annotations

from dataclasses import dataclass

from bodyfit.skeleton import FLAME, MANO, SMPL, SMPLH, SMPLX, Skeleton

__all__ = ["FAMILIES", "ModelFamily"]


@dataclass(frozen=True)
class ModelFamily:
    """One family of body models, with its layout of files and parameters."""

    name: str
    """smpl, smplh, smplx, star, mano_left, mano_right or flame."""
    title: str
    """The name as its authors write it."""
    skeleton: Skeleton
    """The joints, in the order of the file."""
    poses: tuple[tuple[str, int], ...]
    """Pose parameters and the number of joints each turns, in order of the joints; global_orient turns the root."""
    body_joints: int
    """Number of leading joints that a fit moves; 0 where the model is not a whole body."""
    shapes: int
    """Columns of shape in the official file's shapedirs before those of expression; 0 where there is no expression."""

    @property
    def pose_features(self) -> int:
        """Columns of posedirs: 9 entries of R - I a joint but the root; STAR has quaternions and a beta."""
        n = len(self.skeleton) - 1
        return 4 * n + 1 if self.name == "star" else 9 * n


_HANDS = (("left_hand_pose", 15), ("right_hand_pose", 15))
_EYES = (("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1))

FAMILIES: dict[str, ModelFamily] = {
    family.name: family
    for family in (
        ModelFamily("smpl", "SMPL", SMPL, (("body_pose", 23),), 24, 0),
        ModelFamily("smplh", "SMPL-H", SMPLH, (("body_pose", 21), *_HANDS), 22, 0),
        ModelFamily("smplx", "SMPL-X", SMPLX, (("body_pose", 21), *_EYES, *_HANDS), 22, 300),
        ModelFamily("star", "STAR", SMPL, (("body_pose", 23),), 24, 0),
        ModelFamily("mano_left", "MANO, left", MANO["left"], (("hand_pose", 15),), 0, 0),
        ModelFamily("mano_right", "MANO, right", MANO["right"], (("hand_pose", 15),), 0, 0),
        ModelFamily("flame", "FLAME", FLAME, (("neck_pose", 1), *_EYES), 0, 300),
    )
}
