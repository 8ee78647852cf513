"""The kinds of body model there are: their joints, and which parameters turn which of them."""

from __future__ import annotations

from dataclasses import dataclass

from bodyfit.skeleton import FLAME, MANO, SMPL, SMPLH, SMPLX, Skeleton

__all__ = ["KINDS", "Kind"]


@dataclass(frozen=True)
class Kind:
    """One layout of files and parameters."""

    name: str
    """smpl, smplh, smplx, star, mano_left, mano_right or flame."""
    title: str
    """As its authors write it."""
    skeleton: Skeleton
    """The joints, in the order of the file."""
    poses: tuple[tuple[str, int], ...]
    """Pose parameters and how many joints each turns, in the order of the joints; global_orient turns the root."""
    body_joints: int
    """How many of the first joints a fit moves; 0 where the model is no whole body."""
    shapes: int
    """Columns of the official file's shapedirs that are shape where expression columns follow; 0 where none do."""

    @property
    def pose_features(self) -> int:
        """Columns of posedirs: the entries of R - I of every joint but the root; STAR has quaternions and a beta."""
        moved = len(self.skeleton) - 1
        return 4 * moved + 1 if self.name == "star" else 9 * moved


_HANDS = (("left_hand_pose", 15), ("right_hand_pose", 15))
_EYES = (("jaw_pose", 1), ("leye_pose", 1), ("reye_pose", 1))

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("smpl", "SMPL", SMPL, (("body_pose", 23),), 24, 0),
        Kind("smplh", "SMPL-H", SMPLH, (("body_pose", 21), *_HANDS), 22, 0),
        Kind("smplx", "SMPL-X", SMPLX, (("body_pose", 21), *_EYES, *_HANDS), 22, 300),
        Kind("star", "STAR", SMPL, (("body_pose", 23),), 24, 0),
        Kind("mano_left", "MANO, left", MANO["left"], (("hand_pose", 15),), 0, 0),
        Kind("mano_right", "MANO, right", MANO["right"], (("hand_pose", 15),), 0, 0),
        Kind("flame", "FLAME", FLAME, (("neck_pose", 1), *_EYES), 0, 300),
    )
}
