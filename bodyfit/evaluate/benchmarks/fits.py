"""Fit bodies to the detected people of a shot, frame by frame or as a motion."""

from __future__ import annotations

from collections.abc import Sequence as Rows

import numpy as np

from bodyfit.app.pipeline import lift_to_camera, stacked_lifts
from bodyfit.body.model import BodyModel, BodyParams
from bodyfit.evaluate.benchmarks.people import Detected
from bodyfit.evaluate.sequence import Sequence
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import fit
from bodyfit.fit.sequence.fitter import fit_sequence
from bodyfit.geometry.camera import default_focal_px
from bodyfit.keypoints import Keypoints2D

__all__ = ["fitted_frames", "fitted_motion"]

_BATCH = 64


def fitted_frames(person: Sequence, found: Detected, model: BodyModel) -> BodyParams:
    """Fit each frame of a person by itself; NaN for those who were not detected or not fitted."""
    params = model.params().unknown(len(found.rows))
    groups: dict[tuple[str, tuple[int, int]], list[int]] = {}
    for i, (one, size) in enumerate(zip(found.people, found.sizes, strict=True)):
        if one is not None:
            groups.setdefault((one.layout, size), []).append(i)
    for (layout, size), members in groups.items():
        for start in range(0, len(members), _BATCH):
            some = members[start : start + _BATCH]
            evidence = _evidence(person, [found.people[i] for i in some], layout, size)
            result = fit(evidence, model=model)
            for name, values in result.params.items():
                params[name][some] = values.to(params[name])
    return params


def fitted_motion(person: Sequence, found: Detected, model: BodyModel) -> BodyParams:
    """Fit a person's frames, which are all frames of the clip, as one motion; NaN where it is unknown."""
    first = next((i for i, one in enumerate(found.people) if one is not None), None)
    if first is None:
        return model.params().unknown(len(found.rows))
    one, size = found.people[first], found.sizes[first]
    assert one is not None
    evidence = _evidence(person, found.people, one.layout, size)
    return fit_sequence(evidence, fps=person.fps or 30.0, model=model).params


def _evidence(person: Sequence, people: Rows[Keypoints2D | None], layout: str, size: tuple[int, int]) -> Evidence:
    """Make evidence of n frames, with the true intrinsics where the annotations have them."""
    like = next(one for one in people if one is not None)
    focal, centre = default_focal_px(size), (size[0] / 2, size[1] / 2)
    if (K := person.intrinsics) is not None:
        focal, centre = 0.5 * float(K[0, 0] + K[1, 1]), (float(K[0, 2]), float(K[1, 2]))
    xyc = np.stack([np.zeros_like(like.xyc) if one is None else one.xyc for one in people])
    lifts = [None if one is None else lift_to_camera(one, focal, size, centre) for one in people]
    return Evidence(
        keypoints=xyc,
        layout=layout,
        image_size=size,
        focal_px=focal,
        principal_point_px=centre,
        joints3d=stacked_lifts(lifts),
    )
