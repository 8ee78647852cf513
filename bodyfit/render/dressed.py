"""Draw dressed people: textured, hair and brows blended over what is behind, with maps of what each pixel shows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.appearance.dressed import DressedPerson, Surface
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.lens import RadialLens
from bodyfit.raster.bands import by_bands
from bodyfit.raster.coverage import BLOCK, EIGHT, blocks, cover
from bodyfit.render.dressed_mesh import GatheredMesh, Placed, gather
from bodyfit.render.environment import EnvironmentLight, openness_towards
from bodyfit.render.light import Openness, light_of_vertices, openness_past
from bodyfit.render.shade import Layer, box_px
from bodyfit.render.texels import Pyramids

__all__ = ["DressedPicture", "Placed", "render_dressed"]

_GLINT = {"skin": 0.7, "eyes": 2.5, "brows": 0.0, "lashes": 0.0, "hair": 0.8, "shoes": 0.8}
_CLOTH_GLINT = 0.15
"""How much of the key light's highlight each kind has."""
_BLENDED = ("brows", "lashes", "hair")
_FOUR = [3, 2, 4, 6]
"""Those of the eight samples at which transparent faces are sorted."""
_LAYERS = 6
"""Transparent faces that are kept at a sample."""
_SKY, _KEY = 16, 3
"""Numbers of directions sampled over the sky and the key light."""
_GROUND_KEY = 5
"""And over the key light where shadows fall on a ground."""
_SMOOTHING = 2
"""Times that light is averaged over neighbours, which hides the noise of few directions."""
_BAND = 1 << 21
"""Samples of a band: every band goes through all faces, so that few are faster."""
_REMEMBERED = 1 << 23
"""Samples of a picture whose faces are remembered, so that no light is computed where nothing is seen; 64 MB."""


@dataclass(frozen=True, eq=False)
class DressedPicture(Layer):
    """People drawn on nothing, and what each pixel of the drawing shows; maps are of the layer's box."""

    person: Int[np.ndarray, "h w"]
    """Who, as an index into the people; -1 for nobody, also where a thing is."""
    surface: Int[np.ndarray, "h w"]
    """Which row of `surfaces`; -1 for none."""
    face: Int[np.ndarray, "h w"]
    """Which of the surface's faces; -1 for none."""
    depth_m: Float[np.ndarray, "h w"]
    """Along the optical axis, metres; infinite where nothing is."""
    surfaces: tuple[tuple[int, str, str], ...]
    """Person (-1 for a thing), kind and name of each surface."""
    placed: tuple[Placed, ...]
    """The surfaces before the camera."""
    ground: Openness | None
    """How much light reaches the points of a ground that were given."""


def render_dressed(
    people: Sequence[DressedPerson],
    camera: Camera,
    *,
    shadows: bool = True,
    R_light: Float[np.ndarray, "3 3"] | None = None,
    things: Sequence[Surface] = (),
    light: EnvironmentLight | None = None,
    ground: Float[np.ndarray, "G 3"] | None = None,
    up: Float[np.ndarray, "3"] | None = None,
    lens: RadialLens | None = None,
) -> DressedPicture | None:
    """Draw people in camera axes (metres) before one camera; None where nothing of them is in the picture.

    Opaque surfaces are anti-aliased by eight samples a pixel; hair, brows and lashes are blended from at most six faces
    at four of them. `shadows`: people shade themselves and each other. things: opaque surfaces that are nobody's, of
    kind "thing". light: in camera axes; the studio's if left out, which is fixed in the camera's axes, or in those that
    R_light rotates camera axes to: several cameras share the light of a room by it. ground: points below people, with
    the normal `up`, whose openness to `light` is estimated as well. lens: bends the picture. Raises `OptionError`
    where there is more than one camera.
    """
    if len(camera.focal_px) != 1:
        raise OptionError(f"people are drawn before one camera, got {len(camera.focal_px)}; use camera.select([0])")
    listed = [(i, one) for i, person in enumerate(people) for one in person.surfaces()] + [(-1, one) for one in things]
    listed = [(i, one) for i, one in listed if bool(one.vertices.isfinite().all())]
    solid = [k for k, (_, one) in enumerate(listed) if one.kind not in _BLENDED]
    blended = [k for k, (_, one) in enumerate(listed) if one.kind in _BLENDED]
    if not solid:
        return None
    placed = [Placed.of(one, camera, lens) for _, one in listed]
    opaque, layers = gather(placed, solid), gather(placed, blended) if blended else None
    box = box_px(opaque.points, opaque.faces, camera.image_size)
    if layers is not None:
        box = _union(box, box_px(layers.points, layers.faces, camera.image_size))
    if box is None:
        return None
    drawing = _Drawing(box, opaque, layers, [one.texture for _, one in listed])
    seen = drawing.seen([len(one.points_cam_m) for one in placed])
    on_ground = None if ground is None or up is None else (ground, np.broadcast_to(up, ground.shape))
    lights, open_ground = _lights(placed, seen, solid, shadows, light, on_ground, R_light)
    return drawing.picture(lights, tuple((i, one.kind, one.name) for i, one in listed), tuple(placed), open_ground)


def _lights(
    placed: Sequence[Placed],
    seen: Bool[np.ndarray, "V"],
    solid: Sequence[int],
    shadows: bool,
    environment: EnvironmentLight | None,
    ground: tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3"]] | None,
    R_light: Float[np.ndarray, "3 3"] | None,
) -> tuple[list[Float[np.ndarray, "_ 4"]], Openness | None]:
    """Light the vertices of all surfaces, and how open a ground (points, normals) is; opaque ones throw the shadows.

    Vertices that are not `seen` get none.
    """
    points, normals = (np.concatenate([getattr(p, name) for p in placed]) for name in ("points_cam_m", "shaded"))
    if R_light is not None and environment is None:
        turn = R_light.T.astype(np.float32)
        points, normals = points @ turn, normals @ turn
        ground = None if ground is None else (ground[0] @ turn, ground[1] @ turn)
    starts = np.cumsum([0] + [len(p.points_cam_m) for p in placed])
    rows = np.flatnonzero(seen)
    open_to = open_ground = None
    if shadows:
        open_to, open_ground = _openness(placed, points, normals, starts, seen, solid, environment, ground)
        open_to = Openness(open_to.sky[rows], open_to.ambience[rows], open_to.key[rows])
    light = np.zeros((len(points), 4), np.float32)
    if environment is None:
        light[rows] = light_of_vertices(points[rows], normals[rows], open_to)
    else:
        light[rows] = environment.on_vertices(points[rows], normals[rows], open_to)
    parts = [light[a:b] for a, b in itertools.pairwise(starts)]
    for one, part in zip(placed, parts, strict=True):
        part[:, 3] *= _GLINT.get(one.surface.kind, _CLOTH_GLINT)
    return parts, open_ground


def _openness(
    placed: Sequence[Placed],
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    starts: Int[np.ndarray, "K"],
    seen: Bool[np.ndarray, "V"],
    solid: Sequence[int],
    environment: EnvironmentLight | None,
    ground: tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3"]] | None,
) -> tuple[Openness, Openness | None]:
    """How much light reaches each seen vertex past the opaque surfaces, whose coarse faces throw the shadows.

    Vertices of no face, and those far from any that is seen, count as in the open.
    """
    from bodyfit.render.dressed_loops import faces_about
    from bodyfit.render.samples import smooth_over_faces

    coarse = []
    for k in solid:
        own = placed[k].surface.coarse_faces
        coarse.append((placed[k].faces if own is None else own.astype(np.int32)) + np.int32(starts[k]))
    shadow_rows, shadow_faces = _compact(np.concatenate(coarse), len(points))
    fine = np.concatenate([one.faces + np.int32(start) for one, start in zip(placed, starts[:-1], strict=True)])
    rows, faces = _compact(fine[faces_about(fine, seen, _SMOOTHING - 1)], len(points))
    open_ground = None
    if environment is None:
        at = (points[shadow_rows], shadow_faces, points[rows], normals[rows], faces)
        open_to = openness_past(*at, sky=_SKY, key=_KEY)
    else:
        queries, towards = points[rows], normals[rows]
        if ground is not None:
            queries, towards = np.concatenate([queries, ground[0]]), np.concatenate([towards, ground[1]])
        occluder = (points[shadow_rows], shadow_faces)
        keys = _KEY if ground is None else _GROUND_KEY
        parts = openness_towards(environment, occluder, queries, towards, len(rows), sky=_SKY, key=keys)
        open_to = Openness(*smooth_over_faces(parts[: len(rows)], faces, _SMOOTHING).T)
        open_ground = None if ground is None else Openness(*parts[len(rows) :].T)
    everywhere = np.ones((3, len(points)), np.float32)
    everywhere[:, rows] = open_to.sky, open_to.ambience, open_to.key
    return Openness(*everywhere), open_ground


def _compact(faces: Int[np.ndarray, "F 3"], vertices: int) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "F 3"]]:
    """The vertices that faces use, and the faces by their numbers among those."""
    used = np.zeros(vertices, bool)
    used[faces] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[faces].astype(np.int32)


def _union(
    a: tuple[int, int, int, int] | None, b: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


@dataclass(frozen=True)
class _Band:
    """The faces at the samples of a band of rows."""

    touched: Bool[np.ndarray, "h b"]
    """Blocks that hold anything, as `cover` marks them."""
    face_ids: Int[np.ndarray, "h w s"]
    """Opaque faces."""
    layers: tuple[int, int, Int[np.ndarray, "m n f k"], Float[np.ndarray, "m n f k"], UInt8[np.ndarray, "m n f"]] | None
    """Transparent ones in the smallest box that holds them: its first row and column, faces, nearness and numbers."""


class _Drawing:
    """Draws the box of a picture a band of rows at a time."""

    def __init__(
        self,
        box: tuple[int, int, int, int],
        opaque: GatheredMesh,
        layers: GatheredMesh | None,
        textures: Sequence[UInt8[np.ndarray, "_ _ _"]],
    ) -> None:
        corner = np.array((box[0], box[1], 0), np.float32)
        self._corner, self._size = (box[0], box[1]), (box[3] - box[1], box[2] - box[0])
        self._opaque = opaque.shifted(corner)
        self._layers = None if layers is None else layers.shifted(corner)
        self._textures = textures
        self._bands: dict[int, _Band] = {}
        self._seen = self._look()

    def _look(self) -> list[Bool[np.ndarray, "V"]]:
        """Find which vertices of the meshes belong to faces at some sample, and remember these.

        All count as seen in large pictures, whose faces there is no room to remember.
        """
        from bodyfit.render.dressed_loops import mark_layers, mark_opaque

        (height, width), meshes = self._size, [self._opaque] + ([] if self._layers is None else [self._layers])
        if height * width * len(EIGHT) > _REMEMBERED:
            return [np.ones(len(mesh.points), bool) for mesh in meshes]

        def work(top: int, rows: int) -> None:
            self._bands[top] = self._covered(top, rows)

        by_bands(height, width * len(EIGHT), work, samples=_BAND)
        marked = [np.zeros(len(mesh.points), bool) for mesh in meshes]
        for band in self._bands.values():
            mark_opaque(band.touched, band.face_ids, self._opaque.faces, marked[0])
            if self._layers is not None and band.layers is not None:
                mark_layers(band.layers[2], band.layers[4], self._layers.faces, marked[1])
        return marked

    def seen(self, counts: Sequence[int]) -> Bool[np.ndarray, "V"]:
        """Tell which vertices of all placed surfaces, of so many vertices each, are seen."""
        starts, out = np.cumsum([0, *counts]), np.zeros(sum(counts), bool)
        for mesh, own in zip((self._opaque, self._layers), self._seen, strict=False):
            at = 0
            for k in () if mesh is None else mesh.surfaces:
                out[starts[k] : starts[k + 1]] = own[at : at + counts[k]]
                at += counts[k]
        return out

    def picture(
        self,
        lights: Sequence[Float[np.ndarray, "_ 4"]],
        surfaces: tuple[tuple[int, str, str], ...],
        placed: tuple[Placed, ...],
        ground: Openness | None,
    ) -> DressedPicture:
        """Draw everything, each placed surface in its light."""
        height, width = self._size
        rgba = np.zeros((height, width, 4), np.float32)
        face_px, near_px = np.full((height, width), -1, np.int32), np.zeros((height, width), np.float32)
        meshes = [mesh.lit(lights) for mesh in (self._opaque, self._layers) if mesh is not None]
        texels = [mesh.pyramids(self._textures, own) for mesh, own in zip(meshes, self._seen, strict=True)]

        def work(top: int, rows: int) -> None:
            part = slice(top, top + rows)
            band = self._bands.pop(top, None) or self._covered(top, rows)
            _shade(top, band, meshes, texels, (rgba[part], face_px[part], near_px[part]))

        by_bands(height, width * len(EIGHT), work, samples=_BAND)
        owners = np.concatenate([np.repeat(mesh.surfaces, np.diff(mesh.bounds)) for mesh in meshes])
        numbers = np.concatenate([mesh.face_number for mesh in meshes])
        drawn = face_px >= 0
        surface = np.where(drawn, owners[face_px], -1).astype(np.int32)
        people = np.array([person for person, _, _ in surfaces], np.int32)
        return DressedPicture(
            rgba=rgba,
            corner_px=self._corner,
            person=np.where(drawn, people[surface], -1).astype(np.int32),
            surface=surface,
            face=np.where(drawn, numbers[face_px], -1).astype(np.int32),
            depth_m=np.where(drawn, 1 / np.where(drawn, near_px, 1), np.inf).astype(np.float32),
            surfaces=surfaces,
            placed=placed,
            ground=ground,
        )

    def _covered(self, top: int, rows: int) -> _Band:
        """Find the faces of the rows from `top` on."""
        from bodyfit.render.dressed_loops import insert_layers

        width, mesh = self._size[1], self._layers
        face_ids = np.empty((rows, width, len(EIGHT)), np.int32)
        nearness = np.empty(face_ids.shape, np.float32)
        touched = np.zeros((rows, blocks(width)), bool)
        cover(self._opaque.tested, self._opaque.faces, top, EIGHT, touched, face_ids, nearness)
        box = None
        if mesh is not None:
            box = box_px(mesh.points - np.array((0, top, 0), np.float32), mesh.faces, (width, rows))
        if mesh is None or box is None:
            return _Band(touched, face_ids, None)
        x0, y0, x1, y1 = box
        part = (slice(y0, y1), slice(x0, x1))
        drawn = np.repeat(touched, BLOCK, 1)[part]
        behind = np.where(drawn[..., None], nearness[(*part, _FOUR)], np.float32(-np.inf))
        shape = (*behind.shape, _LAYERS)
        layer_ids, layer_near = np.empty(shape, np.int32), np.empty(shape, np.float32)
        count = np.zeros(behind.shape, np.uint8)
        insert_layers(mesh.tested, mesh.faces, top, y0, x0, EIGHT[_FOUR], behind, layer_ids, layer_near, count)
        return _Band(touched, face_ids, (y0, x0, layer_ids, layer_near, count))


def _shade(
    top: int,
    band: _Band,
    meshes: Sequence[GatheredMesh],
    texels: Sequence[Pyramids],
    out: tuple[Float[np.ndarray, "h w 4"], Int[np.ndarray, "h w"], Float[np.ndarray, "h w"]],
) -> None:
    """Draw the faces of a band, transparent ones over what is opaque, into parts of the whole.

    meshes, texels: opaque, and transparent if there are any. out: colours, faces and nearness of the pixels.
    """
    from bodyfit.render.dressed_loops import composite_layers, encode, shade_opaque

    rgba, touched = out[0], band.touched
    linear = np.zeros(rgba.shape, np.float32)
    own = (linear, *out[1:])
    of_faces = [(m.light, m.uv, m.uv_faces, t.texels, t.sheets, t.level) for m, t in zip(meshes, texels, strict=True)]
    opaque = meshes[0]
    shade_opaque(opaque.points, opaque.faces, top, EIGHT, touched, band.face_ids, *of_faces[0], *own)
    if band.layers is not None:
        y0, x0, *found = band.layers
        at = (meshes[1].points, meshes[1].faces, top, y0, x0, EIGHT[_FOUR])
        composite_layers(*at, *found, *of_faces[1], *own, len(opaque.faces))
        touched[y0 : y0 + len(found[0]), x0 // BLOCK : -(-(x0 + found[0].shape[1]) // BLOCK)] = True
    encode(linear, touched, rgba)
