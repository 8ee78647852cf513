"""Draw dressed people: textured, hair and brows blended over what is behind, with maps of what each pixel shows."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from bodyfit.appearance.dressed import DressedPerson, Surface
from bodyfit.errors import OptionError
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.lens import RadialLens
from bodyfit.raster.bands import by_bands
from bodyfit.raster.coverage import BLOCK, EIGHT, blocks, cover, normals_of
from bodyfit.render.environment import EnvironmentLight, openness_towards
from bodyfit.render.light import Openness, light_of_vertices, openness_past
from bodyfit.render.scene import NEAR_M
from bodyfit.render.shade import Layer, box_px
from bodyfit.render.texels import Pyramids, pyramids

__all__ = ["DressedPicture", "Placed", "render_dressed"]

_BACK_M = {
    **{"skin": 0.010, "eyes": 0.010, "brows": 0.0095, "lashes": 0.0085, "shoes": 0.009, "lower": 0.004, "upper": 0.002},
    **{"whole": 0.002, "hair": 0.0, "hat": -0.004, "thing": 0.0},
    "dungarees": -0.002,
}
"""How far behind itself each kind, or one of its pieces, counts as lying when it is asked what hides what, metres.

Skin would show through collars and hems, for cloth lies a few millimetres off it and bends on its own; what is worn
over something else wins over it. Depths and labels are the true ones.
"""
_GLINT = {"skin": 0.7, "eyes": 2.5, "brows": 0.0, "lashes": 0.0, "hair": 0.8, "shoes": 0.8}
_CLOTH_GLINT = 0.15
"""How much of the key light's highlight each kind has."""
_BLENDED = ("brows", "lashes", "hair")
_FOUR = [3, 2, 4, 6]
"""Those of the eight samples at which transparent faces are sorted."""
_LAYERS = 6
"""Transparent faces that are kept at a sample."""
_HAIR_AS_BALL = 0.6
"""How far normals of hair are those of a ball around the head: strands on a card have no normal that means anything."""
_SKY, _KEY = 16, 3
"""Numbers of directions sampled over the sky and the key light."""
_GROUND_KEY = 5
"""And over the key light where shadows fall on a ground."""


@dataclass(frozen=True, eq=False)
class Placed:
    """One surface before the camera."""

    surface: Surface
    points_cam_m: Float[np.ndarray, "V 3"]
    normals: Float[np.ndarray, "V 3"]
    """Of the mesh, camera axes; 0 where a vertex has no face."""
    shaded: Float[np.ndarray, "V 3"]
    """The normals by which it is lit."""
    in_picture: Float[np.ndarray, "V 3"]
    """x px, y px and nearness 1/m."""
    tested: Float[np.ndarray, "V 3"]
    """The same, with the nearness that decides what hides what."""

    @classmethod
    def of(cls, surface: Surface, camera: Camera, lens: RadialLens | None = None) -> Placed:
        """Project a surface in camera axes, metres."""
        points = np.ascontiguousarray(surface.vertices.detach().cpu().float().numpy())
        normals = normals_of(points, surface.faces.astype(np.int32))
        depth = np.maximum(points[:, 2:], NEAR_M)
        centre = camera.principal_point_px[0].detach().cpu().numpy()
        rays = points[:, :2] / depth
        xy = (rays if lens is None else lens.distorted(rays)) * float(camera.focal_px[0]) + centre
        ray = np.linalg.norm(points, axis=1, keepdims=True) / depth  # along the ray, seen along the axis
        back = np.maximum(depth + _BACK_M.get(surface.name, _BACK_M[surface.kind]) / np.maximum(ray, 1), NEAR_M)
        in_picture, tested = (np.concatenate([xy, 1 / z], 1).astype(np.float32) for z in (depth, back))
        shaded = _ball_normals(points, normals) if surface.kind == "hair" else normals
        return cls(surface, points, normals, shaded, in_picture, tested)


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


@dataclass(frozen=True)
class _Mesh:
    """Surfaces gathered before the camera."""

    points: Float[np.ndarray, "V 3"]
    """x px, y px and nearness 1/m."""
    tested: Float[np.ndarray, "V 3"]
    """The same, with the nearness that decides what hides what."""
    faces: Int[np.ndarray, "G 3"]
    face_surface: Int[np.ndarray, "G"]
    face_number: Int[np.ndarray, "G"]
    """Of each face, its surface and its number there."""
    uv: Float[np.ndarray, "G 3 2"]
    light: Float[np.ndarray, "L 4"]
    """As in `light_of_vertices`; of no rows until `lit` gives it."""

    def lit(self, lights: Sequence[Float[np.ndarray, "_ 4"]]) -> _Mesh:
        """Put the light on the vertices."""
        return replace(self, light=np.ascontiguousarray(np.concatenate(lights), np.float32))


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
    opaque_mesh, layers_mesh = _gather(placed, solid), _gather(placed, blended) if blended else None
    box = box_px(opaque_mesh.points, opaque_mesh.faces, camera.image_size)
    if layers_mesh is not None:
        box = _union(box, box_px(layers_mesh.points, layers_mesh.faces, camera.image_size))
    if box is None:
        return None
    on_ground = None if ground is None or up is None else (ground, np.broadcast_to(up, ground.shape))
    lights, open_ground = _lights(placed, solid, shadows, light, on_ground, R_light)
    opaque = opaque_mesh.lit([lights[k] for k in solid])
    layers = None if layers_mesh is None else layers_mesh.lit([lights[k] for k in blended])
    drawing = _Drawing(box, opaque, layers, [one.texture for _, one in listed])
    return drawing.picture(tuple((i, one.kind, one.name) for i, one in listed), tuple(placed), open_ground)


def _ball_normals(points: Float[np.ndarray, "V 3"], normals: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """Normals of hair, for the most part those of a ball around it; a card's own count with either sign."""
    out = points - points.mean(0)
    out /= np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-6)
    own = normals * np.sign((normals * out).sum(1, keepdims=True))
    mixed = _HAIR_AS_BALL * out + (1 - _HAIR_AS_BALL) * own
    return (mixed / np.maximum(np.linalg.norm(mixed, axis=1, keepdims=True), 1e-6)).astype(np.float32)


def _lights(
    placed: Sequence[Placed],
    solid: Sequence[int],
    shadows: bool,
    environment: EnvironmentLight | None,
    ground: tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3"]] | None,
    R_light: Float[np.ndarray, "3 3"] | None,
) -> tuple[list[Float[np.ndarray, "_ 4"]], Openness | None]:
    """Light the vertices of all surfaces, and how open a ground (points, normals) is; opaque ones throw the shadows."""
    points, normals = (np.concatenate([getattr(p, name) for p in placed]) for name in ("points_cam_m", "shaded"))
    if R_light is not None and environment is None:
        turn = R_light.T.astype(np.float32)
        points, normals = points @ turn, normals @ turn
        ground = None if ground is None else (ground[0] @ turn, ground[1] @ turn)
    starts = np.cumsum([0] + [len(p.points_cam_m) for p in placed])
    open_to = open_ground = None
    if shadows:
        open_to, open_ground = _openness(placed, points, normals, starts, solid, environment, ground)
    if environment is None:
        light = light_of_vertices(points, normals, open_to)
    else:
        light = environment.on_vertices(points, normals, open_to)
    parts = [light[a:b] for a, b in itertools.pairwise(starts)]
    for one, part in zip(placed, parts, strict=True):
        part[:, 3] *= _GLINT.get(one.surface.kind, _CLOTH_GLINT)
    return parts, open_ground


def _openness(
    placed: Sequence[Placed],
    points: Float[np.ndarray, "V 3"],
    normals: Float[np.ndarray, "V 3"],
    starts: Int[np.ndarray, "K"],
    solid: Sequence[int],
    environment: EnvironmentLight | None,
    ground: tuple[Float[np.ndarray, "G 3"], Float[np.ndarray, "G 3"]] | None,
) -> tuple[Openness, Openness | None]:
    """How much light reaches each vertex past the opaque surfaces, whose coarse faces throw the shadows."""
    coarse, fine = [], []
    for k, one in enumerate(placed):
        own = one.surface.faces if one.surface.coarse_faces is None else one.surface.coarse_faces
        fine.append(one.surface.faces + starts[k])
        if k in solid:
            coarse.append(own + starts[k])
    shadow_rows, shadow_faces = _compact(np.concatenate(coarse), len(points))
    rows, faces = _compact(np.concatenate(fine), len(points))
    open_ground = None
    if environment is None:
        at = (points[shadow_rows], shadow_faces, points[rows], normals[rows], faces)
        open_to = openness_past(*at, sky=_SKY, key=_KEY)
    else:
        from bodyfit.render.samples import smooth_over_faces

        queries, towards = points[rows], normals[rows]
        if ground is not None:
            queries, towards = np.concatenate([queries, ground[0]]), np.concatenate([towards, ground[1]])
        occluder = (points[shadow_rows], shadow_faces)
        keys = _KEY if ground is None else _GROUND_KEY
        parts = openness_towards(environment, occluder, queries, towards, len(rows), sky=_SKY, key=keys)
        open_to = Openness(*smooth_over_faces(parts[: len(rows)], faces, 2).T)
        open_ground = None if ground is None else Openness(*parts[len(rows) :].T)
    everywhere = np.ones((3, len(points)), np.float32)  # vertices of no face count as in the open
    everywhere[:, rows] = open_to.sky, open_to.ambience, open_to.key
    return Openness(*everywhere), open_ground


def _compact(faces: Int[np.ndarray, "F 3"], vertices: int) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "F 3"]]:
    """The vertices that faces use, and the faces by their numbers among those."""
    used = np.zeros(vertices, bool)
    used[faces] = True
    return np.flatnonzero(used), (np.cumsum(used) - 1)[faces].astype(np.int32)


def _gather(placed: Sequence[Placed], rows: Sequence[int]) -> _Mesh:
    """Concatenate surfaces, without light; faces with a corner at or behind the camera are left out."""
    faces, owners, numbers, uv, start = [], [], [], [], 0
    for k in rows:
        surface = placed[k].surface
        corners = surface.faces.astype(np.int32)
        before = np.flatnonzero((placed[k].points_cam_m[:, 2] > NEAR_M)[corners].all(1))
        faces.append(corners[before] + start)
        owners.append(np.full(len(before), k))
        numbers.append(before)
        uv.append(surface.uv.astype(np.float32)[surface.uv_faces[before]])
        start += len(placed[k].points_cam_m)
    return _Mesh(
        points=np.concatenate([placed[k].in_picture for k in rows]),
        tested=np.concatenate([placed[k].tested for k in rows]),
        faces=np.ascontiguousarray(np.concatenate(faces), np.int32),
        face_surface=np.concatenate(owners),
        face_number=np.concatenate(numbers),
        uv=np.concatenate(uv),
        light=np.zeros((0, 4), np.float32),
    )


def _union(
    a: tuple[int, int, int, int] | None, b: tuple[int, int, int, int] | None
) -> tuple[int, int, int, int] | None:
    if a is None or b is None:
        return a or b
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


class _Drawing:
    """Draws the box of a picture a band of rows at a time."""

    def __init__(
        self,
        box: tuple[int, int, int, int],
        opaque: _Mesh,
        layers: _Mesh | None,
        textures: Sequence[UInt8[np.ndarray, "_ _ _"]],
    ) -> None:
        corner = np.array((box[0], box[1], 0), np.float32)
        self._corner, self._size = (box[0], box[1]), (box[3] - box[1], box[2] - box[0])
        self._opaque = _shifted(opaque, corner)
        self._layers = None if layers is None else _shifted(layers, corner)
        self._texels = _used_pyramids(textures, self._opaque)
        self._layer_texels = None if self._layers is None else _used_pyramids(textures, self._layers)

    def picture(
        self, surfaces: tuple[tuple[int, str, str], ...], placed: tuple[Placed, ...], ground: Openness | None
    ) -> DressedPicture:
        """Draw everything."""
        height, width = self._size
        rgba = np.zeros((height, width, 4), np.float32)
        face_px, near_px = np.full((height, width), -1, np.int32), np.zeros((height, width), np.float32)

        def work(top: int, rows: int) -> None:
            part = slice(top, top + rows)
            self._band(top, rgba[part], face_px[part], near_px[part])

        by_bands(height, width * len(EIGHT), work)
        owners, numbers = self._opaque.face_surface, self._opaque.face_number
        if self._layers is not None:
            owners = np.concatenate([owners, self._layers.face_surface])
            numbers = np.concatenate([numbers, self._layers.face_number])
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

    def _band(
        self,
        top: int,
        rgba: Float[np.ndarray, "h w 4"],
        face_px: Int[np.ndarray, "h w"],
        near_px: Float[np.ndarray, "h w"],
    ) -> None:
        """Draw the rows from `top` on into parts of the whole."""
        from bodyfit.render.dressed_loops import encode, shade_opaque

        rows, width = face_px.shape
        mesh, texels = self._opaque, self._texels
        face_ids = np.empty((rows, width, len(EIGHT)), np.int32)
        nearness = np.empty(face_ids.shape, np.float32)
        touched = np.zeros((rows, blocks(width)), bool)
        cover(mesh.tested, mesh.faces, top, EIGHT, touched, face_ids, nearness)
        linear = np.zeros((rows, width, 4), np.float32)
        own = (linear, face_px, near_px)
        of_faces = (mesh.light, mesh.uv, texels.texels, texels.sheets, texels.level)
        shade_opaque(mesh.points, mesh.faces, top, EIGHT, touched, face_ids, *of_faces, *own)
        self._blend(top, touched, nearness, linear, face_px, near_px)
        encode(linear, touched, rgba)

    def _blend(
        self,
        top: int,
        touched: Bool[np.ndarray, "h b"],
        nearness: Float[np.ndarray, "h w s"],
        linear: Float[np.ndarray, "h w 4"],
        face_px: Int[np.ndarray, "h w"],
        near_px: Float[np.ndarray, "h w"],
    ) -> None:
        """Blend transparent faces over a band, in the smallest box that holds them."""
        from bodyfit.render.dressed_loops import composite_layers, insert_layers

        mesh, texels = self._layers, self._layer_texels
        if mesh is None or texels is None:
            return
        rows, width = face_px.shape
        box = box_px(mesh.points - np.array((0, top, 0), np.float32), mesh.faces, (width, rows))
        if box is None:
            return
        x0, y0, x1, y1 = box
        part = (slice(y0, y1), slice(x0, x1))
        drawn = np.repeat(touched, BLOCK, 1)[part]
        behind = np.where(drawn[..., None], nearness[(*part, _FOUR)], np.float32(-np.inf))
        shape = (*behind.shape, _LAYERS)
        layer_ids, layer_near = np.empty(shape, np.int32), np.empty(shape, np.float32)
        count = np.zeros(behind.shape, np.uint8)
        at = (mesh.faces, top, y0, x0, EIGHT[_FOUR])
        insert_layers(mesh.tested, *at, behind, layer_ids, layer_near, count)
        of_faces = (mesh.light, mesh.uv, texels.texels, texels.sheets, texels.level)
        onto = (linear, face_px, near_px, len(self._opaque.faces))
        composite_layers(mesh.points, *at, layer_ids, layer_near, count, *of_faces, *onto)
        touched[y0:y1, x0 // BLOCK : -(-x1 // BLOCK)] = True


def _shifted(mesh: _Mesh, corner: Float[np.ndarray, "3"]) -> _Mesh:
    return replace(mesh, points=mesh.points - corner, tested=mesh.tested - corner)


def _used_pyramids(textures: Sequence[UInt8[np.ndarray, "_ _ _"]], mesh: _Mesh) -> Pyramids:
    """Pyramids of the textures that a mesh has, one a surface."""
    used, texture_ids = np.unique(mesh.face_surface, return_inverse=True)
    corners = mesh.points[mesh.faces, :2]
    return pyramids([textures[k] for k in used], texture_ids, mesh.uv, corners)
