"""The record of a textured avatar, and the body model that poses it."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from bodyfit.body.model import BodyModel, BodyParams, load_model
from bodyfit.errors import OptionError, check_shape

__all__ = ["Avatar", "moved_model"]


@dataclass(frozen=True, eq=False)
class Avatar:
    """A person's surface at rest, moved out from the skin to the clothes, and its texture."""

    betas: Float[Tensor, "1 K"]
    """The body's shape."""
    offsets_m: Float[np.ndarray, "V 3"]
    """How far each vertex of the rest body is moved, metres, in the model's axes."""
    texture: UInt8[np.ndarray, "S S 3"]
    """RGB, in the mean light of the pictures; the first row is v = 1 of the model's texture coordinates."""
    confidence: UInt8[np.ndarray, "S S"]
    """How well each texel was seen: 255 from in front, 128 and below guessed from the other side, 0 an average."""
    params: BodyParams
    """The bodies of the pictures in order, in the axes of their cameras' world; `betas` are the avatar's."""
    iou: Float[np.ndarray, "N"]
    """Intersection over union of each picture's mask and the body's silhouette."""
    model_name: str
    """The body model, as passed to `load_model`."""
    gender: str
    """Its gender."""
    status: str = "ok"
    """"ok", or "poor" where the bodies disagree with the masks."""
    reason: str | None = None
    """Why it is poor, in words."""
    light: Float[np.ndarray, "9 3"] | None = None
    """Harmonics of the light in the pictures by which sRGB colours are multiplied, in the axes of the cameras' world
    (`bodyfit.avatars.light`); None where it is in the texture."""

    def __post_init__(self) -> None:
        check_shape("texture", self.texture, (None, None, 3))
        check_shape("confidence", self.confidence, self.texture.shape[:2], hint="as large as the texture")
        check_shape("betas", self.betas, (1, None))
        if self.light is not None:
            check_shape("light", self.light, (9, 3))

    @cached_property
    def model(self) -> BodyModel:
        """The body model with the moved surface: it takes poses of any motion, `betas` must be the avatar's.

        Raises `AssetError` where the file of the model is missing.
        """
        base = load_model(self.model_name, gender=self.gender, num_betas=self.betas.shape[1])
        return moved_model(base, self.offsets_m)

    def posed(self, params: BodyParams) -> BodyParams:
        """Give bodies of a motion the avatar's shape, for `model`; what the model lacks (fingers) is left out.

        Raises `ShapeError` and `OptionError`.
        """
        values = {name: value for name, value in params.items() if name in self.params}
        return self.model.params(**values | {"betas": self.betas.to(params.transl).expand(params.batch, -1)})


def moved_model(model: BodyModel, offsets_m: Float[np.ndarray, "V 3"]) -> BodyModel:
    """Copy a model with its rest vertices moved, metres; the joints stay. Raises `OptionError` without texture map."""
    if model.uv is None or model.uv_faces is None:
        raise OptionError(f"{model.name} has no texture coordinates, which an avatar needs; fit the open body")
    check_shape("offsets_m", offsets_m, tuple(model.v_template.shape))
    moved = copy.deepcopy(model)
    moved.v_template += torch.from_numpy(offsets_m).to(moved.v_template)
    return moved
