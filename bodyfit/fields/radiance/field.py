"""The radiance field of one person, in the canonical body's space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float32

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fields.casting.canonical import CanonicalBody, canonical_body, pose_bodies
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.grid import BandGrid, band_grid
from bodyfit.fields.radiance.views import body_rays
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.runtime.parallel import run

__all__ = ["FieldPicture", "RadianceField", "start_field"]

_GRAIN = 512
_LEAST_THROUGH = 2e-3
"""Transmittance at which a ray ends."""
_EMPTY_PER_M = 1.0
"""Density below which space counts as empty when a picture is drawn: 1 cm of it hides 1 %."""


@dataclass(frozen=True, eq=False)
class FieldPicture:
    """What a camera sees of a field."""

    rgb: Float32[np.ndarray, "H W 3"]
    """Colours times opacity, in [0, 1]."""
    mask: Float32[np.ndarray, "H W"]
    """Opacity."""
    depth_m: Float32[np.ndarray, "H W"]
    """Depth along the optical axis where half of the light is stopped; infinite where it is not."""
    normals: Float32[np.ndarray, "H W 3"]
    """Outward unit normals of the field there, camera axes; 0 where there is none."""

    def over(self, background: tuple[float, float, float] | Float[np.ndarray, "H W 3"]) -> Float32[np.ndarray, "H W 3"]:
        """Lay the picture over a colour or a picture, in [0, 1]."""
        behind = np.asarray(background, np.float32)
        return np.clip(self.rgb + (1 - self.mask[..., None]) * behind, 0, 1).astype(np.float32)


@dataclass(frozen=True, eq=False)
class RadianceField:
    """Density and colour of one dressed person about the canonical body, lit from outside.

    A place has density s softplus(g_0 + bias) and the colour sigmoid(g_1..3) times sum_j light_j H_j(n), of the values
    g interpolated there and the harmonics H of the posed body's normal n.
    """

    model: BodyModel
    """The body that it goes with."""
    canonical: CanonicalBody
    """The canonical body, of the person's shape."""
    grid: BandGrid
    """Where the nodes are."""
    values: Float32[np.ndarray, "R 4"]
    """Density logit and albedo logits of each node."""
    light: Float32[np.ndarray, "9 3"]
    """Harmonics of the light, in the axes of the parameters, of each channel."""
    gains: Float32[np.ndarray, "C 3"]
    """Factor of each camera's colours."""
    offsets: Float32[np.ndarray, "C 3"]
    """And what is added to them."""
    config: RadianceConfig
    """How it was trained."""

    def draw(
        self,
        params: BodyParams,
        camera: CalibratedCamera,
        size_px: tuple[int, int],
        *,
        of_camera: int | None = None,
    ) -> FieldPicture:
        """Draw the person in a pose, from a camera.

        params: one body, in the world's axes of the camera. size_px: (width, height). of_camera: give colours as that
        camera of the training has them; as their mean has them if left out. Raises `OptionError` and `ShapeError`.
        """
        from bodyfit.fields.radiance.draw_loops import draw

        if params.batch != 1:
            raise OptionError(f"one body is drawn at a time, got {params.batch}; use params.select([0])")
        cast, (width, height) = self.config.cast, size_px
        body = pose_bodies(self.canonical, self.model, params)[0]
        rays, pixel = body_rays(camera, (height, width), body, cast.widest_m)
        volume = cast.volume_of(body)
        drawn = np.zeros((len(rays), 8), np.float32)
        march = (
            *(rays.origins, rays.directions, rays.offsets, body.warp),
            *(self.canonical.ring_ptr, self.canonical.ring, self.canonical.reach),
            *(volume.origin_m, volume.voxel_m, volume.nearest, volume.empty),
            *(float(cast.step_m), cast.bands_of(body), float(cast.depth_m)),
        )
        opaque = self.opaque(_LEAST_THROUGH)
        field = (*self.grid.arrays, self.values, self.light, opaque, self._extent())
        run(draw, len(rays), *march, self.canonical.wide_ptr, self.canonical.wide, *field, drawn, grain=_GRAIN)
        return self._picture(drawn, pixel, camera, rays.directions, (height, width), of_camera)

    def opaque(self, least_through: float) -> Float[np.ndarray, "4"]:
        """Return what the compiled loops read: bias, density scale, step and least transmittance."""
        config = self.config
        return np.array([config.density_bias, config.density_per_m, config.cast.step_m, least_through])

    def densities(self) -> Float[np.ndarray, "R"]:
        """Compute the density at the nodes of the finest level, 1/m, the other levels' values added."""
        from bodyfit.fields.radiance.draw_loops import at_places

        rows = self.grid.level_rows(len(self.config.nodes_m) - 1)
        logits = np.empty((rows.stop - rows.start, 4), np.float32)
        places = self.grid.places()[rows]
        run(at_places, len(places), places, *self.grid.arrays, self.values, logits, grain=4096)
        return self.config.density_per_m * np.logaddexp(0, logits[:, 0] + self.config.density_bias)

    def _extent(self) -> Float32[np.ndarray, "V"]:
        """Bound how far above each vertex the field is not empty, metres; cached."""
        cached = self.__dict__.get("_cached_extent")
        if cached is None:
            cached = _extent(self)
            object.__setattr__(self, "_cached_extent", cached)
        return cached

    def _picture(
        self,
        drawn: Float32[np.ndarray, "R 8"],
        pixel: np.ndarray,
        camera: CalibratedCamera,
        directions: Float32[np.ndarray, "R 3"],
        size: tuple[int, int],
        of_camera: int | None,
    ) -> FieldPicture:
        """Put drawn rays into a picture."""
        if of_camera is not None and not 0 <= of_camera < len(self.gains):
            raise OptionError(
                f"of_camera must be one of the {len(self.gains)} cameras of the training, got {of_camera}"
            )
        gain = self.gains.mean(0) if of_camera is None else self.gains[of_camera]
        offset = self.offsets.mean(0) if of_camera is None else self.offsets[of_camera]
        maps = np.zeros((size[0] * size[1], 8), np.float32)
        maps[:, 4] = np.inf
        maps[pixel, :4] = drawn[:, :4]
        maps[pixel, :3] = drawn[:, :3] * gain + drawn[:, 3:4] * offset
        maps[pixel, 4] = np.where(drawn[:, 4] > 0, drawn[:, 4] * (directions @ camera.R[2].astype(np.float32)), np.inf)
        maps[pixel, 5:] = drawn[:, 5:] @ camera.R.T.astype(np.float32)
        maps = maps.reshape(*size, 8)
        parts = (maps[..., :3], maps[..., 3], maps[..., 4], maps[..., 5:])
        return FieldPicture(*(np.ascontiguousarray(part) for part in parts))


def start_field(model: BodyModel, betas: np.ndarray, config: RadianceConfig, cameras: int) -> RadianceField:
    """Begin a field at the body: dense inside, grey, in even light."""
    import torch

    canonical = canonical_body(model, torch.from_numpy(betas).to(model.v_template))
    grid = band_grid(canonical, config.nodes_m, config.cast)
    values = np.zeros((grid.rows, 4), np.float32)
    rows = grid.level_rows(len(config.nodes_m) - 1)
    values[rows, 0] = config.start_logit / (1 + np.exp(np.clip(grid.signed_m[rows] / config.start_width_m, -40, 40)))
    light = np.zeros((9, 3), np.float32)
    light[0] = 1
    gains, offsets = np.ones((cameras, 3), np.float32), np.zeros((cameras, 3), np.float32)
    return RadianceField(model, canonical, grid, values, light, gains, offsets, config)


def _extent(field: RadianceField) -> Float32[np.ndarray, "V"]:
    """Bound how far above each vertex the density counts: by the nodes about it and about its two rings."""
    from scipy.spatial import KDTree

    canonical = field.canonical
    rows = field.grid.level_rows(len(field.config.nodes_m) - 1)
    places = field.grid.places()[rows][field.densities() > _EMPTY_PER_M]
    extent = np.full(len(canonical.vertices), -np.inf)
    if len(places):
        distance, vertex = KDTree(canonical.vertices).query(places)
        np.maximum.at(extent, vertex, distance + 2 * field.config.nodes_m[-1])
    owner = np.repeat(np.arange(len(extent)), np.diff(canonical.wide_ptr))
    grown = extent.copy()
    np.maximum.at(grown, owner, extent[canonical.wide])
    return grown.astype(np.float32)
