"""Registration of a body to a scan, from points to the body under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module

import numpy as np
import torch
from jaxtyping import Float
from scipy.spatial import KDTree
from torch import Tensor

from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.params import BodyParams
from bodyfit.errors import OptionError
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.result import FitStatus
from bodyfit.fit.scan.descent import LEVELS, ScanFitter
from bodyfit.fit.scan.objective import posed
from bodyfit.geometry.cloud import PointCloud, as_cloud
from bodyfit.register.fingers import has_fingers, with_fingers
from bodyfit.register.orientation import oriented
from bodyfit.register.quality import misfit, verdict
from bodyfit.register.registration import Registration
from bodyfit.register.surface.offsets import fit_surface
from bodyfit.register.surroundings import without_surroundings
from bodyfit.register.twists import with_best_twists
from bodyfit.register.units import plausible_units

__all__ = ["STARTS", "Starts", "register"]

Starts = Callable[[PointCloud], "list[BodyParams]"]
"""Finds where to start from: bodies (batches of 1) in the axes of a cloud in metres, the most probable first."""

STARTS: dict[str, str] = {
    "detector": "bodyfit.app.scans:DetectorStarts",
    "poses": "bodyfit.register.pose_starts:PoseStarts",
}
"""What makes `Starts` from a model, as module:class, by name; imported when it is used."""

_FIT_POINTS = 60_000
_SLACK = 0.03
"""Factor of the cost of skin inside the scan of a clothed person: 6 mm cost as much as 1 mm outside."""
_CLOTHED_MM = 7.0
"""90th percentile of the distances to a bare body from which on, unless given, a person is taken for clothed: of bare
people it is about 3 mm, in a shirt and with hair 12 and more."""


def register(
    points: object,
    *,
    model: BodyModel | None = None,
    normals: object = None,
    faces: object = None,
    colors: object = None,
    unit: str | float | None = None,
    clothed: bool | None = None,
    start: str | Starts | BodyParams = "detector",
    surface: bool = True,
) -> Registration:
    """Fit a body to a scan of one person, in any pose, of any orientation.

    points: (N, 3), any of N up to 20 million, in metres, centimetres or millimetres unless `unit` is "m", "cm", "mm",
    "in", "ft" or a number of metres. normals: (N, 3) outward, estimated if missing; faces: (F, 3), if the points are
    vertices of a mesh, which is then sampled; colors: (N, 3) RGB, 0 to 1 or to 255, which help the detector. Points
    that are not finite are left out, and so are a floor and a pedestal.

    clothed: whether skin may lie inside the scan; by default it is found out. start: "detector" (the scan is drawn from
    several sides and our detector finds the person), "poses" (typical poses in many orientations), a function of that
    kind, or a body in the scan's axes and metres. surface: fit the surface over, too, if the body is reliable where it
    was scanned.

    The result is in the scan's axes, metres. Its status is `poor` with a reason if the body is not to be relied on, and
    `unobservable` if nobody was found. Raises `ShapeError` and `OptionError`.
    """
    model = load_model() if model is None else model
    if not model.body_joints:
        raise OptionError(f"a {model.kind.title} model is no whole body and cannot be registered to one")
    if model.device.type != "cpu":
        raise OptionError(f"scans are registered on the CPU; move the model there, it is on {model.device}")
    cloud = as_cloud(points, normals, faces, colors)
    if len(cloud) < 100:
        raise OptionError(f"{len(cloud)} points are too few for a body; give at least 100, better 10,000")
    keep = without_surroundings(cloud).keep
    if keep.sum() < 100:
        keep = np.ones(len(cloud), bool)
    units = plausible_units(cloud.points[keep], unit)
    middle = cloud.points[keep].mean(0)
    fitter, best = ScanFitter(model), None
    for unit_m in units:
        scan = _Scan(cloud, keep, middle, unit_m)
        found = _fitted(fitter, scan, clothed, start)
        if best is None or _rank(found) < _rank(best):
            best = found
    assert best is not None
    if unit is None and best.reason is not None and not best.unscanned:
        note = f"one unit was taken for {best.unit_m:g} m, by the scan's size; if it is another, give the unit"
        best = replace(best, reason=f"{best.reason} ({note})")
    fit_over = surface and (best.reason is None or bool(best.unscanned))
    return _with_surface(best, model, middle) if fit_over else best


def _with_surface(result: Registration, model: BodyModel, middle: Float[np.ndarray, "3"]) -> Registration:
    """Add the surface over; it is fitted about the scan's middle, where numbers of single precision are fine."""
    shift = result.unit_m * middle
    params = result.params
    centred = dict(params) | {"transl": params.transl - torch.as_tensor(shift).to(params.transl)}
    assert result.normals is not None
    over = fit_surface(
        model,
        BodyParams(**centred),
        result.points[result.person] - shift,
        result.normals[result.person],
        oriented=result.oriented,
    )
    offsets = over.offsets_m[: len(model.v_template)]
    return replace(result, offsets_m=offsets, surface=replace(over, vertices_m=over.vertices_m + shift))


@dataclass(frozen=True)
class _Scan:
    """A cloud, which of its points are the person's, and its place and unit."""

    cloud: PointCloud
    keep: np.ndarray
    middle: np.ndarray
    unit_m: float

    def person(self) -> PointCloud:
        """Return the person's points about their middle, metres."""
        return self.cloud.select(self.keep).moved(np.eye(3), self.middle, self.unit_m)


def _rank(found: Registration) -> tuple[bool, bool, float]:
    errors = found.errors
    return not found.status.ok, found.status is FitStatus.POOR, 1.0 if errors is None else -errors.explained


def _fitted(fitter: ScanFitter, scan: _Scan, clothed: bool | None, start: str | Starts | BodyParams) -> Registration:
    """Fit a body to a scan of a known unit."""
    person = scan.person()
    person = oriented(person)
    starts, origin = _starts(fitter.model, person, scan, start)
    unseen = not starts and start == "detector"
    if unseen:
        starts, origin = _starts(fitter.model, person, scan, "poses")
        clothed = bool(clothed)
    model = fitter.model
    points = scan.unit_m * scan.cloud.points
    if not starts:
        params = model.params()
        nothing = params.unknown(params.batch)
        reason = "nobody was found in the scan"
        return Registration(
            nothing, None, None, FitStatus.UNOBSERVABLE, None, reason, scan.unit_m, points=points, person=scan.keep
        )
    x, is_clothed = _descended(fitter, torch.cat([fitter.layout.pack(one) for one in starts]), person, clothed)
    if has_fingers(model):
        body, fitter = fitter.layout.params(x[None]), ScanFitter(model, fingers=True)
        x = fitter.layout.pack(dict(body))[0]
        x = with_fingers(fitter, x, person, slack=_SLACK if is_clothed else 1.0)
    params = fitter.layout.params(x[None])
    values = dict(params) | {"transl": params.transl + torch.as_tensor(scan.unit_m * scan.middle).to(params.transl)}
    stage = StageObjective(fitter.terms, LEVELS[-1].stage(), fitter.observations(1))
    body = posed(fitter.surface, stage, x)
    centred = body.vertices[0].double().numpy()
    errors = misfit(person, centred, fitter.faces, clothed=is_clothed)
    signed = np.full(len(scan.cloud), np.nan)
    signed[scan.keep] = errors.points_m
    found = verdict(person, centred, errors, params, model, clothed=is_clothed, unseen=unseen)
    shift = torch.as_tensor(scan.unit_m * scan.middle).to(body.vertices)
    return Registration(
        params=BodyParams(**values),
        offsets_m=None,
        surface=None,
        status=FitStatus.CONVERGED if found.reason is None else FitStatus.POOR,
        errors=replace(errors, points_m=signed),
        reason=found.reason,
        unit_m=scan.unit_m,
        unscanned=found.unscanned,
        doubtful=found.doubtful,
        clothed=is_clothed,
        start=origin,
        vertices=body.vertices[0] + shift,
        joints=body.tree.joints[0] + x[fitter.layout["transl"]] + shift,
        points=points,
        normals=scan.cloud.normals,
        oriented=scan.cloud.oriented,
        colors=scan.cloud.colors,
        person=scan.keep,
    )


def _starts(
    model: BodyModel, person: PointCloud, scan: _Scan, start: str | Starts | BodyParams
) -> tuple[list[BodyParams], str]:
    """Find where to start from, in the axes of the person's points."""
    if isinstance(start, BodyParams):
        one = model.params(**start)
        shift = torch.as_tensor(scan.unit_m * scan.middle).to(one.transl)
        return [BodyParams(**(dict(one) | {"transl": one.transl - shift}))], "given"
    if isinstance(start, str):
        if start not in STARTS:
            raise OptionError(f"start must be one of {', '.join(STARTS)}, a function or a body, got {start!r}")
        module, _, name = STARTS[start].partition(":")
        return getattr(import_module(module), name)(model)(person), start
    return start(person), "given"


def _descended(
    fitter: ScanFitter, x: Float[Tensor, "B D"], person: PointCloud, clothed: bool | None
) -> tuple[Float[Tensor, "D"], bool]:
    """Fit from each start, coarsely; then the best to the end, with slack if the person is clothed."""
    slack = _SLACK if clothed else 1.0
    x, cost = fitter.descend(x, person, LEVELS[:1], slack=slack)
    one = x[int(torch.nan_to_num(cost, nan=torch.inf).argmin())]
    one = fitter.descend(one[None], person, LEVELS[1:2], slack=slack)[0][0]
    one = with_best_twists(fitter, one, person, slack=slack)
    one = fitter.descend(one[None], person, LEVELS[2:3], slack=slack)[0][0]
    if clothed is None and (clothed := _looks_clothed(fitter, one, person)):
        slack = _SLACK
        one = fitter.descend(one[None], person, LEVELS[1:3], slack=slack)[0][0]
    one = fitter.descend(one[None], person, LEVELS[3:], slack=slack)[0][0]
    return one, bool(clothed)


def _looks_clothed(fitter: ScanFitter, x: Float[Tensor, "D"], person: PointCloud) -> bool:
    """Tell from what a bare body leaves unexplained whether a person is clothed."""
    stage = StageObjective(fitter.terms, LEVELS[-1].stage(), fitter.observations(1))
    vertices = posed(fitter.surface, stage, x).vertices[0].double().numpy()
    distance, _ = KDTree(person.points).query(vertices)
    covered = distance < 0.05
    fitter.mesh.update(vertices)
    away = fitter.mesh.nearest(person.points[:: max(1, len(person) // 10_000)]).distance
    near = away < 0.05
    if covered.mean() < 0.1 or not near.any():
        return False
    return 1000 * float(np.quantile(away[near], 0.9)) > _CLOTHED_MM
