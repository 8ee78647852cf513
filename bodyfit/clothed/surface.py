"""Find the clothed surfaces of the people of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8

from bodyfit.avatars.avatar import moved_model
from bodyfit.body.assets import asset_path
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.clothed.inputs import body_view, network_image, region_about, sampled
from bodyfit.clothed.mesh import surface_mesh
from bodyfit.detect.networks.session import Network
from bodyfit.detect.networks.threads import threads_from_environment
from bodyfit.errors import OptionError, check_shape
from bodyfit.geometry.camera import Camera
from bodyfit.keypoints import SoftMask
from bodyfit.register.surface.offsets import posing_matrices, unposed

__all__ = ["ClothedSurface", "Mask", "clothed_surface", "whole_mask"]

Mask = SoftMask | UInt8[np.ndarray, "h w"] | Bool[np.ndarray, "h w"]
"""A person's silhouette: of the whole picture (255 or True is the person), or in a box."""
_MOST_M = 0.3
"""Nothing is moved farther than this."""
_LEAST_PIXELS = 20
"""A mask of fewer pixels than this, in the network's region, tells nothing."""
_POOR_IOU = 0.75
"""A surface that agrees less with the mask is poor, as avatars' bodies are (`bodyfit.avatars`)."""


@dataclass(frozen=True, eq=False)
class ClothedSurface:
    """People's surfaces, clothes and hair included: the vertices of their bodies, moved. The faces are the model's."""

    vertices_m: Float[np.ndarray, "N V 3"]
    """In the camera's axes, metres. Those of a person without a mask are the body's."""
    params: BodyParams
    """The bodies."""
    model: BodyModel
    """What they are of."""
    masked: tuple[bool, ...]
    """Who has a mask that tells something."""
    found: tuple[bool, ...]
    """Who has a surface other than the body."""
    notes: tuple[str | None, ...]
    """Why a person has none, or a poor one."""

    def __len__(self) -> int:
        return len(self.vertices_m)

    @cached_property
    def offsets_m(self) -> Float[np.ndarray, "N V 3"]:
        """Moves of the vertices at rest, metres, in the model's axes: skinning takes them to where they are here."""
        offsets = np.empty(self.vertices_m.shape, np.float32)
        for i, vertices in enumerate(self.vertices_m):
            own = self.params.select([i])
            with torch.no_grad():
                body = self.model(**own).vertices[0].double().cpu().numpy()
            offsets[i] = unposed(posing_matrices(self.model, own), vertices - body)
        return offsets

    def person_model(self, number: int) -> BodyModel:
        """Return the body model with one person's surface, to pose by other parameters of the same `betas`."""
        return moved_model(self.model, self.offsets_m[number])


def clothed_surface(
    params: BodyParams,
    image: UInt8[np.ndarray, "H W 3"],
    masks: Mask | Sequence[Mask | None],
    camera: Camera,
    model: BodyModel | None = None,
) -> ClothedSurface:
    """Find the surfaces, clothes and hair included, of the people of one picture.

    A network (after Mesh R-CNN's refinement, Gkioxari et al. 2019) moves the vertices of the posed bodies, for the most
    part along their normals. params: N bodies in camera axes, of an open body. image: RGB. masks: one a person, None
    for who has none, or the mask itself of one person. camera: one for all, or one a person, as `FitResult.camera` has
    it; its pixels are the picture's. model: the bodies' model, the neutral open body by default. What is hidden is
    guessed: it has the clothes that are usual with what is visible. A surface that agrees less with the mask than the
    body does is wrong: the body stays, and `ClothedSurface.notes` says so, as it says where a surface is poor. Not
    differentiable. Raises `OptionError` for
    another model than the open ones, and for masks and cameras that are not as many as bodies, and `ShapeError`.
    """
    model = load_model() if model is None else model
    mesh = surface_mesh()
    if len(model.v_template) != len(mesh.near):
        raise OptionError(f"clothed surfaces are of the open body, got {model.name}; fit with model='open'")
    masks = [masks] if isinstance(masks, SoftMask | np.ndarray) else masks
    check_shape("image", image, (None, None, 3))
    count, cameras = params.batch, len(camera.focal_px)
    if len(masks) != count:
        raise OptionError(f"there are {count} bodies, but {len(masks)} masks: give one a person, None for who has none")
    if cameras not in (1, count):
        raise OptionError(f"there are {count} bodies, but {cameras} cameras: give one, or one a person")
    with torch.no_grad():
        bodies = model(**params).vertices.double().cpu().numpy()
    size = (image.shape[1], image.shape[0])
    vertices, found = bodies.copy(), []
    for i, (body, mask) in enumerate(zip(bodies, masks, strict=True)):
        own = min(i, cameras - 1)
        lens = np.array([float(camera.focal_px[own]), *camera.principal_point_px[own].tolist()])
        one = None
        if mask is not None and np.isfinite(body).all():
            one = _offset(body, image, whole_mask(mask, size), lens)
        found.append(one)
        if one is not None and not one.worse:
            vertices[i] = body + one.offset_m
    notes = tuple("there is no mask of the person" if one is None else one.note() for one in found)
    masked = tuple(one is not None for one in found)
    moved = tuple(one is not None and not one.worse for one in found)
    return ClothedSurface(vertices, params, model, masked, moved, notes)


@dataclass(frozen=True, eq=False)
class _Found:
    """What the network makes of one person."""

    offset_m: Float[np.ndarray, "V 3"]
    """Moves of the vertices, camera axes."""
    iou: float
    """Of the moved silhouette and the mask."""
    body_iou: float
    """Of the body's silhouette and the mask."""

    @property
    def worse(self) -> bool:
        """Whether the mask is for the body."""
        return self.iou < self.body_iou

    def note(self) -> str | None:
        """What is to be said of it."""
        if self.worse:
            return f"it agrees less with the mask than the body does (IoU {self.iou:.2f} and {self.body_iou:.2f})"
        return None if self.iou >= _POOR_IOU else f"poor: it agrees with the mask to an IoU of {self.iou:.2f} alone"


def _offset(
    body: Float[np.ndarray, "V 3"],
    image: UInt8[np.ndarray, "H W 3"],
    mask: UInt8[np.ndarray, "H W"],
    lens: Float[np.ndarray, "3"],
) -> _Found | None:
    """Ask the network how a body's vertices move; None where the mask tells nothing."""
    mesh = surface_mesh()
    points = body[mesh.vertices]
    roi = region_about(points, lens)
    if roi is None:
        return None
    view = body_view(points, mesh, lens, roi)
    own = sampled(mask, roi)
    if int((own > 127).sum()) < _LEAST_PIXELS:
        return None
    inside = sampled(np.full(image.shape[:2], 255, np.uint8), roi)
    channels = network_image(sampled(image, roi), own, inside, view)
    inputs = {"image": channels, "points": view.points, "features": view.features, "lens": view.lens}
    moves = _network().run(["moves"], {name: array[None] for name, array in inputs.items()})[0][0].astype(np.float64)
    # Toes and ears have normals of their own: along them the surface would fold.
    offset = mesh.spread(moves[:, :1] * view.normals[: mesh.anchors] + moves[:, 1:])
    far = np.linalg.norm(offset, axis=1, keepdims=True)
    offset = offset * np.minimum(1, _MOST_M / np.maximum(far, 1e-9))
    there = body_view(points + offset[mesh.vertices], mesh, lens, roi).maps[3]
    return _Found(offset, *(_iou(shown > 0, own > 127, inside > 127) for shown in (there, view.maps[3])))


def _iou(shown: Bool[np.ndarray, "S S"], mask: Bool[np.ndarray, "S S"], inside: Bool[np.ndarray, "S S"]) -> float:
    """Intersection over union, in the picture."""
    union = (shown | mask) & inside
    return float((shown & mask & inside).sum() / max(int(union.sum()), 1))


def whole_mask(mask: Mask, size: tuple[int, int]) -> UInt8[np.ndarray, "H W"]:
    """Return a mask of the whole picture, 0 to 255."""
    if isinstance(mask, SoftMask):
        return mask.full(size)
    check_shape("mask", mask, size[::-1], hint="as large as the picture")
    return np.where(mask, np.uint8(255), np.uint8(0)) if mask.dtype == np.bool_ else mask


@lru_cache(maxsize=1)
def _network() -> Network:
    return Network(asset_path("clothed", "surface.onnx"), threads=threads_from_environment())
