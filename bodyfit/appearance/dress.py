"""Dress posed bodies: pose every piece with the body and give it its colours."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from bodyfit.appearance.binding import bound_piece, check_model
from bodyfit.appearance.catalogue import piece_arrays
from bodyfit.appearance.coarse import coarse_piece, coarse_skin
from bodyfit.appearance.colors import hat_texture, iris_texture, piece_texture, skin_texture
from bodyfit.appearance.dressed import Dressed, DressedPerson, Surface
from bodyfit.appearance.outfit import Outfit
from bodyfit.appearance.settle import hangs_free, settle
from bodyfit.appearance.wardrobe import random_outfits
from bodyfit.body.kernels.skinning import posed_mesh
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError

__all__ = ["below_hat", "covered", "dress", "outfit_texture"]

_BRIM = 0.4
"""Part of a hat's vertices, the lowest, that are its brim."""


def dress(
    params: BodyParams,
    *,
    model: BodyModel | None = None,
    outfit: Outfit | Sequence[Outfit] | None = None,
    seed: int = 0,
) -> Dressed:
    """Dress posed bodies; returns their skin and pieces as posed, textured meshes in the parameters' axes.

    params: of an open body (`open`, `open-h`, `open-x`), as `model` takes them. model: the one they are of; the neutral
    `open-x` body, or `open` for parameters without hands, if left out. outfit: one for all, or one a body; random ones
    of `seed` if left out (`random_outfits`, for the model's gender). Nothing is differentiable: textures are pictures,
    and the vertices are computed without a graph. Raises `OptionError` and `ShapeError`.
    """
    if model is None:
        model = load_model("open" if params.left_hand_pose is None else "open-x")
    check_model(model)
    outfits = _outfits(outfit, params.batch, seed, model.gender)
    with torch.no_grad():
        params = model.params(**params)
        posed = _Posing(model, params)
        skin = model(**params).vertices
        meshes: dict[str, dict[int, Tensor]] = {}
        for name in sorted({name for one in outfits for name in _worn(one)}):
            rows = [i for i, one in enumerate(outfits) if name in _worn(one)]
            meshes[name] = dict(zip(rows, posed(name, rows), strict=True))
            if hangs_free(name):
                meshes[name] = {i: _settled(name, mesh, skin[i], model) for i, mesh in meshes[name].items()}
    people = []
    for i, one in enumerate(outfits):
        worn = [_piece(kind, name, meshes[name][i], one) for kind, name in (("eyes", "eyes"), *one.pieces())]
        people.append(DressedPerson(_skin(model, skin[i], one), tuple(worn), one))
    return Dressed(tuple(people))


def _outfits(outfit: Outfit | Sequence[Outfit] | None, count: int, seed: int, gender: str) -> Sequence[Outfit]:
    """One outfit a body. Raises `OptionError`."""
    if outfit is None:
        return random_outfits(count, seed, gender=gender)
    if isinstance(outfit, Outfit):
        return [outfit] * count
    if len(outfit) != count:
        raise OptionError(f"outfit must be one outfit, or one for each of the {count} bodies, got {len(outfit)}")
    return outfit


def _worn(outfit: Outfit) -> tuple[str, ...]:
    return ("eyes", *(name for _, name in outfit.pieces()))


class _Posing:
    """Poses pieces with the bodies' coefficients, pose and place."""

    def __init__(self, model: BodyModel, params: BodyParams) -> None:
        self._model = model
        self._inputs = model.coefficients(params), model.full_pose(params), params.transl

    def __call__(self, name: str, rows: list[int]) -> Float[Tensor, "N P 3"]:
        inputs = (x[rows].contiguous() for x in self._inputs)
        return posed_mesh(bound_piece(self._model, name), *inputs)[0]


def _settled(
    name: str, vertices: Float[Tensor, "P 3"], skin: Float[Tensor, "V 3"], model: BodyModel
) -> Float[Tensor, "P 3"]:
    """A loose piece laid on the posed skin."""
    laid = settle(name, vertices.cpu().numpy(), skin.cpu().numpy(), model.faces.cpu().numpy())
    return torch.from_numpy(laid).to(vertices)


def _piece(kind: str, name: str, vertices: Float[Tensor, "P 3"], outfit: Outfit) -> Surface:
    arrays, texture = piece_arrays(name), outfit_texture(kind, name, outfit)
    faces, uv_faces = arrays.faces, arrays.uv_faces
    if kind == "hair" and outfit.hat is not None:
        below = below_hat(name, outfit.hat)
        faces, uv_faces = faces[below], uv_faces[below]
    return Surface(name, kind, vertices, faces, arrays.uv, uv_faces, texture, coarse_piece(name))


@lru_cache(maxsize=32)
def below_hat(hair: str, hat: str) -> Bool[np.ndarray, "F"]:
    """Tell which faces of hair show below a hat: those below the plane of its brim."""
    template, whole = piece_arrays(hair).template[0], piece_arrays(hat).template[0]
    brim = whole[whole[:, 1] < np.quantile(whole[:, 1], _BRIM)]
    plane = np.linalg.lstsq(np.c_[brim[:, [0, 2]], np.ones(len(brim))], brim[:, 1], rcond=None)[0]
    middle = template[piece_arrays(hair).faces].mean(1)
    return middle[:, 1] < middle[:, [0, 2]] @ plane[:2] + plane[2]


def outfit_texture(kind: str, name: str, outfit: Outfit) -> UInt8[np.ndarray, "H W C"]:
    """Colour the picture of the skin or of a piece as the outfit has it; RGBA where it is partly transparent."""
    if kind == "skin":
        return skin_texture(name, outfit.skin_tone)
    if kind == "eyes":
        return iris_texture(outfit.iris)
    if kind == "hat":
        return hat_texture(outfit.dyes.get("hat"))
    return piece_texture(kind, name, outfit)


def _skin(model: BodyModel, vertices: Float[Tensor, "V 3"], outfit: Outfit) -> Surface:
    """The skin without what the pieces cover, and without the body's own eyeballs."""
    if model.uv is None or model.uv_faces is None:
        raise OptionError(f"{model.name} has no texture coordinates; load the open body by its name")
    faces = model.faces.cpu().numpy()
    hidden = covered(outfit)
    visible, coarse = ~hidden[faces].all(1), coarse_skin()
    texture = outfit_texture("skin", outfit.skin, outfit)
    own = (faces[visible], model.uv, model.uv_faces[visible], texture, coarse[~hidden[coarse].all(1)])
    return Surface(outfit.skin, "skin", vertices, *own)


def covered(outfit: Outfit) -> Bool[np.ndarray, "V"]:
    """Vertices of the body that some piece covers."""
    return np.logical_or.reduce([piece_arrays(name).hidden for name in _worn(outfit)])
