"""An avatar's mesh in the viewer, coloured at its vertices."""

from __future__ import annotations

from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Float32

from bodyfit.avatars import Avatar

__all__ = ["AvatarMesh"]


class AvatarMesh:
    """A mesh with a colour a vertex, which viser sends anew for each pose: its textured meshes do not move."""

    def __init__(self, scene: Any, name: str, avatar: Avatar, vertices: Float[np.ndarray, "V 3"]) -> None:
        self._scene, self._name, self._avatar = scene, name, avatar
        self._colors = _vertex_colors(avatar)
        self._visible = True
        self.vertices = vertices

    @property
    def vertices(self) -> Float32[np.ndarray, "V 3"]:
        """Vertices in camera axes, metres."""
        return self._vertices

    @vertices.setter
    def vertices(self, vertices: Float[np.ndarray, "V 3"]) -> None:
        self._vertices = np.asarray(vertices, np.float32)
        faces = self._avatar.model.faces.numpy()
        mesh = trimesh.Trimesh(self._vertices, faces, vertex_colors=self._colors, process=False)
        self._handle = self._scene.add_mesh_trimesh(self._name, mesh, visible=self._visible)

    @property
    def visible(self) -> bool:
        """Whether it is displayed."""
        return self._visible

    @visible.setter
    def visible(self, visible: bool) -> None:
        self._visible = self._handle.visible = visible

    def remove(self) -> None:
        """Take it from the scene."""
        self._handle.remove()


def _vertex_colors(avatar: Avatar) -> np.ndarray:
    """Look up the texture at the vertices: (V, 4) bytes."""
    uv, uv_faces = avatar.model.uv, avatar.model.uv_faces
    assert uv is not None
    assert uv_faces is not None
    faces, size = avatar.model.faces.numpy(), len(avatar.texture)
    row_of = np.zeros(len(avatar.offsets_m), np.int64)
    row_of[faces.ravel()] = uv_faces.ravel()
    column, row = np.clip((uv[row_of] * [1, -1] + [0, 1]) * size, 0, size - 1).astype(int).T
    return np.concatenate([avatar.texture[row, column], np.full((len(row), 1), 255, np.uint8)], 1)
