"""Train a radiance field and refine the bodies of its pictures in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import RadianceField
from bodyfit.fields.radiance.fit import fit_views
from bodyfit.fields.radiance.poses import PoseConfig, refine_poses
from bodyfit.fields.radiance.views import View
from bodyfit.geometry.camera import CalibratedCamera

__all__ = ["JointConfig", "fit_field_and_bodies", "halved"]


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """How a field and the bodies of its pictures are fitted in turn."""

    rounds: int = 3
    """How often bodies are refined, each time by a field that begins anew at them: a field that was trained on worse
    bodies is blurred, and would hold the better ones back."""
    coarse_rounds: int = 3
    """So many of the first rounds see pictures of half the size: four times quicker, and their slopes reach farther."""
    passes: float | int = 1.0
    """How often each ray is drawn in a field that only refines bodies."""
    poses: PoseConfig = field(default_factory=PoseConfig)
    """How bodies are refined."""

    def __post_init__(self) -> None:
        if not (0 <= self.coarse_rounds <= self.rounds and self.rounds >= 1 and self.passes > 0):
            raise OptionError("joint fitting needs 0 <= coarse_rounds <= rounds, rounds >= 1 and passes > 0")


def fit_field_and_bodies(
    views: Sequence[View],
    params: BodyParams,
    model: BodyModel,
    *,
    config: RadianceConfig | None = None,
    joint: JointConfig | None = None,
    keypoints: Sequence[Float[np.ndarray, "K 3"]] | None = None,
    layout: str | None = None,
    progress: Callable[[int, BodyParams], None] | None = None,
) -> tuple[RadianceField, BodyParams]:
    """Train a field and refine its frames' bodies in turn; return the field of the refined bodies, and these.

    views: `frame` is a row of params, the estimates, in the axes of the cameras' world. keypoints: (x px, y px,
    confidence) of each view in `layout`, which stay in the objective, as the masks do. progress: called with the number
    of each round and its bodies. Raises `OptionError` and `ShapeError`.
    """
    config = RadianceConfig() if config is None else config
    joint = JointConfig() if joint is None else joint
    small = [halved(view) for view in views]
    near = None if keypoints is None else [xyc * (0.5, 0.5, 1.0) for xyc in keypoints]
    bodies = params
    for number in range(joint.rounds):
        coarse = number < joint.coarse_rounds
        some, points = (small, near) if coarse else (views, keypoints)
        quick = fit_views(some, bodies, model, config=replace(config, passes=joint.passes))
        bodies = refine_poses(
            quick, some, bodies, config=joint.poses, start=params, keypoints=points, layout=layout, seed=number
        )
        if progress is not None:
            progress(number + 1, bodies)
    return fit_views(views, bodies, model, config=config), bodies


def halved(view: View) -> View:
    """Reduce a view to half its size; an odd row or column at the end is left out."""
    height, width = (side // 2 for side in view.size)
    part = np.s_[: 2 * height, : 2 * width]
    soft = view.mask if view.mask.dtype == np.uint8 else 255 * view.mask.astype(np.uint8)
    picture, mask = (
        cv2.resize(np.ascontiguousarray(image[part]), (width, height), interpolation=cv2.INTER_AREA)
        for image in (view.picture, soft)
    )
    unknown = None
    if view.unknown is not None:
        unknown = view.unknown[part].reshape(height, 2, width, 2).any((1, 3))
    K = np.diag([0.5, 0.5, 1.0]) @ view.camera.K
    camera = CalibratedCamera(K=K, R=view.camera.R, t=view.camera.t, distortion=view.camera.distortion)
    return replace(view, picture=np.asarray(picture), mask=np.asarray(mask), camera=camera, unknown=unknown)
