"""Views with the body posed before their cameras."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from bodyfit.avatars.avatar import moved_model
from bodyfit.avatars.view import BACKGROUND, PERSON, UNKNOWN, AvatarView
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.geometry.mesh_tree import vertex_normals
from bodyfit.raster.depth import DepthMap, depth_map

__all__ = ["PosedView", "posed_views", "rest_surface", "together"]

_STEP_M = 0.01
_CHUNK = 16


@dataclass(frozen=True, eq=False)
class PosedView:
    """A view, and the body in its camera's axes, metres."""

    image: UInt8[np.ndarray, "H W 3"]
    """RGB."""
    state: UInt8[np.ndarray, "H W"]
    """What each pixel shows: `BACKGROUND`, `PERSON` or `UNKNOWN`."""
    lens: tuple[float, float, float, float]
    """Focal lengths in x and y and principal point, pixels."""
    points: Float[np.ndarray, "V 3"]
    """Vertices."""
    outward: Float[np.ndarray, "V 3"]
    """How far a vertex goes for each metre that it is moved along its rest normal."""
    R: Float[np.ndarray, "3 3"]
    """From the world's axes to the camera's."""

    def moved(self, distance_m: Float[np.ndarray, " V"]) -> PosedView:
        """Move the vertices along their normals."""
        return replace(self, points=self.points + distance_m[:, None] * self.outward)

    def depth(self, faces: Int[np.ndarray, "F 3"]) -> DepthMap:
        """Draw the depth of the body."""
        height, width = self.state.shape
        fx, fy, cx, cy = self.lens
        return depth_map(self.points, faces, (fx, fy), (cx, cy), (width, height))


def together(params: Sequence[BodyParams]) -> BodyParams:
    """Put bodies of one layout together, in order."""
    return BodyParams(**{name: torch.cat([one[name] for one in params]) for name in params[0]})


def rest_surface(model: BodyModel, params: BodyParams) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3"]]:
    """Compute the vertices and the normals of the shaped body at rest."""
    with torch.no_grad():
        rest = model(betas=params.betas[:1]).vertices[0].double().cpu().numpy()
    return rest, vertex_normals(rest, model.faces.cpu().numpy())


def posed_views(
    views: Sequence[AvatarView], model: BodyModel, normals: Float[np.ndarray, "V 3"]
) -> Iterator[PosedView]:
    """Pose the body of each view, and see how a step along the rest normals moves its vertices: skinning is linear."""
    ahead = moved_model(model, _STEP_M * normals)
    for first in range(0, len(views), _CHUNK):
        some = views[first : first + _CHUNK]
        params = together([view.params for view in some])
        with torch.no_grad():
            points = model(**params).vertices.double().numpy()
            moved = ahead(**params).vertices.double().numpy()
        for view, at, beside in zip(some, points, moved, strict=True):
            R, t = view.camera.R, view.camera.t
            state = np.where(view.mask, PERSON, BACKGROUND).astype(np.uint8)
            if view.unknown is not None:
                state[view.unknown & ~view.mask] = UNKNOWN
            yield PosedView(view.image, state, view.lens, at @ R.T + t, (beside - at) @ R.T / _STEP_M, R)
