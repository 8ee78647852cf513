"""Starts of a body's fit to a scan: the scan is drawn from several sides, and a detector finds the person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from bodyfit.body.model import BodyModel
from bodyfit.body.params import BodyParams
from bodyfit.detect import load_detector
from bodyfit.detect.base import Detector
from bodyfit.fit.config import FitConfig
from bodyfit.fit.evidence import Evidence
from bodyfit.fit.fitter import Fitter
from bodyfit.geometry.camera import CalibratedCamera
from bodyfit.geometry.cloud import PointCloud
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D
from bodyfit.register.views import View, camera_around, draw
from bodyfit.register.world import in_world
from bodyfit.skeleton import layout_names, mirrored_rows

__all__ = ["DetectorStarts"]

_YAWS = (0.0, 90.0, 180.0, 270.0)
_AROUND = tuple(range(0, 360, 45))
_SIZE_PX = 448
_SURE = 0.45
"""Mean score of an orientation's views from which on no further orientation is tried."""
_AGREE_PX = 0.06
"""Errors of keypoints beyond three times this, in parts of the picture's side, count as that."""


@dataclass(frozen=True)
class Look:
    """A person in a view of the scan."""

    camera: CalibratedCamera
    person: Keypoints2D

    @property
    def score(self) -> float:
        """The detector's score, less where few keypoints are visible."""
        return self.person.score * float(np.clip(self.person.xyc[:, 2], 0, 1).mean())


class DetectorStarts:
    """Starts from keypoints that a detector finds in views of a scan."""

    def __init__(self, model: BodyModel, detector: Detector | None = None) -> None:
        self.model = model
        self.detector = load_detector() if detector is None else detector
        self._fitters: dict[str, Fitter] = {}

    def __call__(self, cloud: PointCloud) -> list[BodyParams]:
        """Find starts (batches of 1) in the axes of a cloud in metres, the most probable first; empty for nobody."""
        centre = (cloud.points.min(0) + cloud.points.max(0)) / 2
        radius = float(np.linalg.norm(cloud.points - centre, axis=1).max())
        scored = []
        for up, ahead in _orientations(cloud.points - centre):
            looks = self.looks(
                cloud, [camera_around(centre, radius, up, ahead, yaw_deg=y, size_px=_SIZE_PX) for y in _YAWS]
            )
            scored.append((sum(look.score for look in looks) / len(_YAWS), up, ahead))
            if scored[-1][0] > _SURE:
                break
        scored.sort(key=lambda one: -one[0])
        starts = []
        for score, up, ahead in scored[:2]:
            if score < 0.25 * scored[0][0] or score <= 0.02:
                continue
            cameras = [
                camera_around(centre, radius, up, ahead, yaw_deg=yaw, pitch_deg=10, size_px=_SIZE_PX) for yaw in _AROUND
            ]
            looks = self.looks(cloud, cameras)
            if looks and (start := self.fitted(looks)) is not None:
                starts.append(start)
        return starts

    def looks(self, cloud: PointCloud, cameras: Sequence[CalibratedCamera]) -> list[Look]:
        """Draw the cloud and detect the largest person of each view; views without anybody are left out."""
        views: list[View] = [draw(cloud, camera) for camera in cameras]
        found = self.detector.detect([Frame(view.image) for view in views])
        return [Look(view.camera, people[0]) for view, people in zip(views, found, strict=True) if people]

    def fitted(self, looks: Sequence[Look]) -> BodyParams | None:
        """Fit a body to the keypoints of all views; left and right of a view that contradicts it are exchanged."""
        layout = looks[0].person.layout
        if layout not in self._fitters:
            config = FitConfig(uncertainty=False, quality=False)
            self._fitters[layout] = Fitter(layout=layout, model=self.model, config=config)
        cameras = [look.camera for look in looks]
        xyc = np.stack([look.person.xyc for look in looks]).astype(np.float64)
        mirrored = mirrored_rows(layout_names(layout))
        best = None
        for _ in range(3):
            result = self._fitters[layout].fit(Evidence(keypoints=xyc[None], layout=layout, cameras=cameras))
            if not bool(torch.isfinite(result.params.transl).all()):
                return best
            best = in_world(result.params, self.model, cameras[0])
            points = self.model.keypoints(best, layout)[0].double().numpy()
            exchange = []
            for view, camera in enumerate(cameras):
                xy = camera.project(np.nan_to_num(points))
                seen = (xyc[view, :, 2] > 0.1) & np.isfinite(points).all(1)
                errors = []
                for rows in (np.arange(len(xy)), np.asarray(mirrored)):
                    distance = np.linalg.norm(xyc[view, rows, :2] - xy, axis=1)[seen] / _SIZE_PX
                    errors.append(float(np.minimum(distance, 3 * _AGREE_PX).mean()) if seen.any() else 0.0)
                exchange.append(errors[1] < 0.8 * errors[0])
            if not any(exchange):
                break
            for view in np.flatnonzero(exchange):
                xyc[view] = xyc[view, mirrored]
        return best


def _orientations(points: Float[np.ndarray, "N 3"]) -> list[tuple[np.ndarray, np.ndarray]]:
    """List directions that may be up, each with one ahead: the axes and the principal ones that differ from them."""
    _, _, principal = np.linalg.svd(points[:: max(1, len(points) // 20_000)], full_matrices=False)
    candidates = [sign * axis for axis in (principal[0], np.eye(3)[1], np.eye(3)[2], np.eye(3)[0]) for sign in (1, -1)]
    candidates += [sign * axis for axis in principal[1:] for sign in (1, -1)]
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for up in candidates:
        if all(up @ other < np.cos(np.radians(15)) for other, _ in found):
            # The thinnest direction across is likely to be front or back.
            ahead = principal[2] if abs(principal[2] @ up) < 0.9 else principal[1]
            found.append((up, ahead))
    return found
