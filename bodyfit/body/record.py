"""Define the records of a body model's arrays, which readers make and the model is built from."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from bodyfit.body.families.kinds import ModelFamily

__all__ = ["GENDERS", "BodyAssets", "FaceLandmarks", "HandSpace", "PoseBlocks"]

GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True)
class PoseBlocks:
    """Sparse pose blend shapes: one block for each pair of a vertex and a joint that moves it."""

    vertex: Int[np.ndarray, "N"]
    """Vertices, ascending."""
    joint: Int[np.ndarray, "N"]
    """Joints, never the root; ascending where the vertex is the same."""
    block: Float[np.ndarray, "N 3 9"]
    """Offsets in metres for each entry of the joint's R - I, row-major."""

    @classmethod
    def of(cls, dense: Float[np.ndarray, "V 3 P"]) -> PoseBlocks:
        """Extract the nonzero blocks of dense posedirs."""
        blocks = dense.reshape(len(dense), 3, -1, 9).transpose(0, 2, 1, 3)
        vertex, joint = np.nonzero(blocks.any((2, 3)))
        return cls(vertex, joint + 1, np.ascontiguousarray(blocks[vertex, joint]))

    def dense(self, vertices: int, joints: int) -> Float[np.ndarray, "V 3 P"]:
        """Return dense posedirs, as SMPL's files hold them."""
        full = np.zeros((vertices, joints - 1, 3, 9), self.block.dtype)
        full[self.vertex, self.joint - 1] = self.block
        return full.transpose(0, 2, 1, 3).reshape(vertices, 3, -1)


@dataclass(frozen=True)
class HandSpace:
    """Principal components of one hand's pose."""

    mean: Float[np.ndarray, "45"]
    """The mean (relaxed) hand, axis-angles of the 15 joints, radians."""
    components: Float[np.ndarray, "45 45"]
    """A component a row, by decreasing variance."""


@dataclass(frozen=True)
class FaceLandmarks:
    """Landmarks on the mesh: SMPL-X's 51 of the inner face, and 17 of the contour that depend on head yaw."""

    faces_idx: Int[np.ndarray, "L"]
    """Triangles that they lie on."""
    bary_coords: Float[np.ndarray, "L 3"]
    """Barycentric coordinates on these triangles."""
    contour_faces_idx: Int[np.ndarray, "Y C"] | None = None
    """Triangles of the contour for each yaw: 0 to 39, then -1 to -39 degrees."""
    contour_bary_coords: Float[np.ndarray, "Y C 3"] | None = None
    """Barycentric coordinates on these triangles."""


@dataclass(frozen=True)
class BodyAssets:
    """The arrays of one body model, checked; metres, float64 (posedirs keep the file's dtype)."""

    name: str
    """The source that `load_model` was given."""
    kind: ModelFamily
    """The model family."""
    gender: str
    """neutral, male or female."""
    v_template: Float[np.ndarray, "V 3"]
    """Mean body in the T-pose."""
    shapedirs: Float[np.ndarray, "V 3 S"]
    """Vertex offsets for one unit of each beta."""
    posedirs: Float[np.ndarray, "V 3 P"] | PoseBlocks | None
    """Vertex offsets for each pose feature: vec(R - I), row-major, of joints 1 to J - 1 (STAR: see `ModelFamily`)."""
    J_regressor: Float[np.ndarray, "J V"]
    """Regressor of rest joints from rest vertices."""
    weights: Float[np.ndarray, "V J"]
    """Linear blend skinning weights."""
    faces: Int[np.ndarray, "F 3"]
    """Triangles, counter-clockwise from outside."""
    exprdirs: Float[np.ndarray, "V 3 E"] | None = None
    """Vertex offsets for one unit of each expression coefficient."""
    hands: dict[str, HandSpace] = field(default_factory=dict)
    """Pose spaces by side, left or right; a missing side has no components and a mean of zero."""
    keypoints: dict[str, Float[np.ndarray, "V"]] = field(default_factory=dict)
    """Regressors of named surface points."""
    landmarks: FaceLandmarks | None = None
    """Landmarks of the face."""
    uv: Float[np.ndarray, "T 2"] | None = None
    """Texture coordinates."""
    uv_faces: Int[np.ndarray, "F 3"] | None = None
    """Rows of `uv` at each face's corners."""

    @property
    def parents(self) -> tuple[int, ...]:
        """Kinematic tree, -1 for the root."""
        return self.kind.skeleton.parents
