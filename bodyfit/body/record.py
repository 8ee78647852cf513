"""The arrays of a body model as records; what every reader makes and the model is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.families.kinds import Kind

__all__ = ["GENDERS", "BodyAssets", "HandSpace", "Landmarks", "PoseBlocks"]

GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True)
class PoseBlocks:
    """Pose blend shapes of which each vertex has few: one block for a vertex and a joint that moves it."""

    vertex: Int[np.ndarray, "N"]
    """Vertices, ascending."""
    joint: Int[np.ndarray, "N"]
    """Joints, never the root; ascending where the vertex is the same."""
    block: Float[np.ndarray, "N 3 9"]
    """Metres for each entry of R - I of the joint, row-major."""

    @classmethod
    def of(cls, dense: Float[np.ndarray, "V 3 P"]) -> PoseBlocks:
        """The blocks of a file's posedirs that are not zero."""
        blocks = dense.reshape(len(dense), 3, -1, 9).transpose(0, 2, 1, 3)
        vertex, joint = np.nonzero(blocks.any((2, 3)))
        return cls(vertex, joint + 1, np.ascontiguousarray(blocks[vertex, joint]))

    def dense(self, vertices: int, joints: int) -> Float[np.ndarray, "V 3 P"]:
        """As SMPL's files hold it."""
        full = np.zeros((vertices, joints - 1, 3, 9), self.block.dtype)
        full[self.vertex, self.joint - 1] = self.block
        return full.transpose(0, 2, 1, 3).reshape(vertices, 3, -1)


@dataclass(frozen=True)
class HandSpace:
    """Principal components of one hand's pose."""

    mean: Float[np.ndarray, "45"]
    """Radians: the relaxed hand, as axis-angle of the 15 joints."""
    components: Float[np.ndarray, "45 45"]
    """A component a row, by falling variance."""


@dataclass(frozen=True)
class Landmarks:
    """Points on faces of the mesh: SMPL-X's 51 landmarks of the inner face and 17 of the contour by head yaw."""

    faces_idx: Int[np.ndarray, "L"]
    """Faces."""
    bary_coords: Float[np.ndarray, "L 3"]
    """Barycentric coordinates on them."""
    contour_faces_idx: Int[np.ndarray, "Y C"] | None = None
    """Faces of the contour for each yaw, 0 to 39 and then -1 to -39 degrees."""
    contour_bary_coords: Float[np.ndarray, "Y C 3"] | None = None
    """Barycentric coordinates on them."""


@dataclass(frozen=True)
class BodyAssets:
    """The arrays of one body model, checked. Lengths in metres; float64, but posedirs as the file has them."""

    name: str
    """What `load_model` was asked for."""
    kind: Kind
    """Its layout."""
    gender: str
    """neutral, male or female."""
    v_template: Float[np.ndarray, "V 3"]
    """Mean body in the T-pose."""
    shapedirs: Float[np.ndarray, "V 3 S"]
    """Vertex offsets for one unit of each beta."""
    posedirs: Float[np.ndarray, "V 3 P"] | PoseBlocks | None
    """Vertex offsets for each pose feature: vec(R - I), row-major, of joints 1 to J - 1 (STAR: see `Kind`)."""
    J_regressor: Float[np.ndarray, "J V"]
    """Rest joints from rest vertices."""
    weights: Float[np.ndarray, "V J"]
    """Linear blend skinning weights."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""
    exprdirs: Float[np.ndarray, "V 3 E"] | None = None
    """Vertex offsets for one unit of each expression coefficient."""
    hands: dict[str, HandSpace] = field(default_factory=dict)
    """By side, left or right; a side without an entry has no space and a mean of zero."""
    keypoints: dict[str, Float[np.ndarray, "V"]] = field(default_factory=dict)
    """Regressors of named surface points."""
    landmarks: Landmarks | None = None
    """The face's."""
    uv: Float[np.ndarray, "T 2"] | None = None
    """Texture coordinates."""
    uv_faces: Int[np.ndarray, "F 3"] | None = None
    """Rows of `uv` at each face's corners."""

    @property
    def parents(self) -> tuple[int, ...]:
        """Kinematic tree, -1 for the root."""
        return self.kind.skeleton.parents
