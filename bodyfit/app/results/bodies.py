"""The meshes and the numbers of people in results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from bodyfit.app.results.find import Person
from bodyfit.body.anthropometry.measure import Measurements
from bodyfit.body.model import BodyModel
from bodyfit.errors import OptionError
from bodyfit.fit.result import FitResult, FitStatus, model_of

__all__ = ["Models", "Numbers", "PersonFigures", "numbers", "overall_status"]


class Models:
    """The body models that results name, each loaded once."""

    def __init__(self, source: str | None = None) -> None:
        """`source` stands for the model of every result, for results whose model's file has moved."""
        self._source = source
        self._loaded: dict[tuple[str, str, int], BodyModel] = {}

    def of(self, result: FitResult) -> BodyModel:
        """The model that a result is of. Raises `AssetError` where its file is not there."""
        key = result.model_name, result.gender, result.params.betas.shape[1]
        if key not in self._loaded:
            self._loaded[key] = model_of(result, self._source)
        return self._loaded[key]

    def vertices(self, person: Person, rows: Sequence[int]) -> Float[Tensor, "N V 3"]:
        """Vertices of some rows of a person's result, camera axes, metres."""
        with torch.no_grad():
            return self.of(person.result)(**person.result.params.select(list(rows))).vertices


@dataclass(frozen=True)
class Numbers:
    """What there is to say of a person in figures; of a clip, means over its rows."""

    status: str
    """The fit's, or in a clip the worst that occurs, `poor` only where most frames are."""
    reason: str | None
    """Why there is no body, or none to rely on, in words."""
    ok: bool
    """Whether the body can be used."""
    error_px: float
    """Mean reprojection error, NaN where no keypoint is sure."""
    error_percent: float
    """The same in percent of the body's height in the picture."""
    distance_m: float
    """The pelvis from the camera, along its axis."""
    focal_px: float
    """Focal length."""
    focal_source: str
    """Where it came from: "given", "exif", "found" from a clip, or "guess"."""
    measurements: dict[str, float]
    """Of the body in the rest pose by the names of `Measurements`, metres and kilograms; empty for a hand or a head."""
    joints_sd_m: dict[str, float]
    """How far each joint may be from where it is, about the pelvis, where the file says so."""


@dataclass(frozen=True)
class PersonFigures:
    """A person as the page shows them."""

    person: Person
    """Who."""
    numbers: Numbers
    """Figures."""
    index: int
    """Place among the page's bodies."""
    color: tuple[float, float, float]
    """RGB in [0, 1]."""


def numbers(person: Person, model: BodyModel, vertices: Float[Tensor, "N V 3"], rows: Sequence[int]) -> Numbers:
    """The numbers of a person, whose vertices in some `rows` of the result are given (camera axes, metres)."""
    result = person.result
    status, reason = overall_status(result)
    heights = _heights_px(person, vertices, rows)
    errors = result.reprojection_error_px[list(rows)].numpy()
    columns = () if result.joints_sd_rel_m is None else result.joints_sd_rel_m.unbind(1)
    spread = {name: _mean(sd.numpy()) for name, sd in zip(model.skeleton.names, columns, strict=False)}  # the body's
    return Numbers(
        status=status.value,
        reason=reason,
        ok=status.ok,
        error_px=_mean(result.reprojection_error_px.numpy()),
        error_percent=_mean(100 * errors / np.where(heights > 0, heights, np.nan)),
        distance_m=_mean(result.joints[:, 0, 2].numpy()),
        focal_px=float(result.camera.to_draw().focal_px[0]),
        focal_source=result.focal_source,
        measurements=_measurements(model, result.params.betas[:1]),
        joints_sd_m={name: sd for name, sd in spread.items() if np.isfinite(sd)},
    )


def overall_status(result: FitResult) -> tuple[FitStatus, str | None]:
    """The status that stands for all rows, and its reason."""
    poor = [i for i, status in enumerate(result.status) if status is FitStatus.POOR]
    if 2 * len(poor) > sum(status is not FitStatus.FILLED for status in result.status):
        reasons = Counter(reason for i in poor if (reason := result.reason[i]))
        return FitStatus.POOR, next((reason for reason, _ in reasons.most_common(1)), None)
    rest = [(s, reason) for s, reason in zip(result.status, result.reason, strict=True) if s is not FitStatus.POOR]
    failed = next(((s, reason) for s, reason in rest if not s.ok), None)
    return failed or (max((s for s, _ in rest), key=lambda s: s is FitStatus.MAX_STEPS), None)


def _measurements(model: BodyModel, betas: Float[Tensor, "1 S"]) -> dict[str, float]:
    try:
        measured = model.measure(betas)
    except OptionError:  # a hand or a head has no height
        return {}
    values = {f.name: float(getattr(measured, f.name)[0]) for f in fields(Measurements)}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def _heights_px(person: Person, vertices: Float[Tensor, "N V 3"], rows: Sequence[int]) -> Float[np.ndarray, "N"]:
    """Heights of the part of each body that lies in the picture."""
    camera = person.result.camera.to_draw().select(list(rows))
    y = camera.project(vertices)[..., 1].clamp(0, camera.image_size[1])
    return (y.amax(1) - y.amin(1)).numpy()


def _mean(values: Float[np.ndarray, "N"]) -> float:
    """Mean of what is finite, NaN of nothing."""
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else float("nan")
