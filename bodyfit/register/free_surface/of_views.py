"""The free surface of a person in three or more calibrated pictures, about the body that is fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import fit
from bodyfit.fit.result import FitResult
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.rotation import so3_exp
from bodyfit.register.free_surface.run import FreeSurface, surface_of_masks
from bodyfit.register.free_surface.views import CarveView
from bodyfit.register.world import in_world

__all__ = ["ViewsSurface", "surface_of_views"]


@dataclass(frozen=True)
class ViewsSurface:
    """A body and a surface of no body's shape about it, in the axes of the cameras' world."""

    result: FitResult
    """The body before the first camera."""
    params: BodyParams
    """The body in the world."""
    vertices_m: Float[np.ndarray, "V 3"]
    """Its vertices in the world."""
    surface: FreeSurface


def surface_of_views(
    keypoints: Float[np.ndarray, "C K 3"],
    layout: str,
    masks: Sequence[Bool[np.ndarray, "_ _"] | None],
    cameras: Sequence[CalibratedCamera],
    model: BodyModel,
    *,
    cell_m: float = 0.015,
) -> ViewsSurface:
    """Fit a body to a person's keypoints and masks in C calibrated pictures, and carve what the masks agree on.

    masks: of each picture, of its size; None where there is none, or where the person is not all in it. cell_m: as in
    `surface_of_masks`. Raises `OptionError` where no body can be placed, and for fewer than three masks.
    """
    evidence = Evidence(keypoints=keypoints[None], layout=layout, cameras=cameras, masks=[list(masks)])
    result = fit(evidence, model=model)
    if not result.status[0].ok:
        raise OptionError(f"no body can be placed in these pictures: {result.reason[0]}")
    params = in_world(result.params, model, cameras[0])
    with torch.no_grad():
        vertices = model(**params).vertices[0].double().cpu().numpy()
    views = [CarveView(camera, mask) for camera, mask in zip(cameras, masks, strict=True) if mask is not None]
    axes = so3_exp(params.global_orient.double())[0].cpu().numpy()
    return ViewsSurface(result, params, vertices, surface_of_masks(views, vertices, axes=axes, cell_m=cell_m))
