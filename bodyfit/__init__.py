"""Posed, shaped 3D bodies from photographs and video.

The names below are the package's front door. They are imported when first used, so that `bodyfit --help` and
`import bodyfit` cost nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bodyfit import detect, evaluate, fields, render, skeleton
    from bodyfit.app.markers import fit_points3d
    from bodyfit.app.pipeline import fit_frames, fit_image
    from bodyfit.app.shape import ShapeResult, fit_shape
    from bodyfit.app.video import fit_video
    from bodyfit.appearance import Dressed, Dye, Outfit, dress, random_outfits
    from bodyfit.avatars import Avatar, AvatarView, make_avatar
    from bodyfit.body.anthropometry.intervals import Interval
    from bodyfit.body.contact.interpenetration import Interpenetration, interpenetration
    from bodyfit.body.model import BodyModel, BodyOutput, BodyParams, load_model
    from bodyfit.body.pose_prior import PosePrior, load_pose_prior
    from bodyfit.body.sample import random_bodies
    from bodyfit.clothed import ClothedSurface, clothed_surface
    from bodyfit.detect import load_detector
    from bodyfit.errors import BodyfitError
    from bodyfit.fit.config import (
        Calibration,
        FitConfig,
        SequenceCalibration,
        SequenceConfig,
        SilhouetteConfig,
        StageConfig,
    )
    from bodyfit.fit.evidence import Evidence
    from bodyfit.fit.fitter import Fitter, fit, fit_keypoints
    from bodyfit.fit.result import FitResult, FitStatus, FitTrace
    from bodyfit.fit.sequence.fitter import SequenceFitter, fit_sequence
    from bodyfit.fit.sequence.track import Track
    from bodyfit.geometry.camera import CalibratedCamera, Camera
    from bodyfit.images.frame import Frame, read_image
    from bodyfit.io.amass import load_amass, save_amass
    from bodyfit.io.export.formats import export
    from bodyfit.io.keypoints import load_keypoints, save_keypoints
    from bodyfit.io.motions import Motion, load_motion, load_motions
    from bodyfit.io.points3d import Points3D, load_points3d
    from bodyfit.io.results.params import load_result, save
    from bodyfit.io.results.track import load_track, save_track
    from bodyfit.io.scans.load import Scan, load_scan
    from bodyfit.keypoints import Keypoints2D, convert_keypoints
    from bodyfit.register.registration import Registration
    from bodyfit.register.run import register
    from bodyfit.solve import LMConfig

__version__ = "0.1.0"

_HOME = {
    "Avatar": "avatars",
    "AvatarView": "avatars",
    "BodyModel": "body.model",
    "BodyOutput": "body.model",
    "BodyParams": "body.model",
    "BodyfitError": "errors",
    "CalibratedCamera": "geometry.camera",
    "Calibration": "fit.config",
    "Camera": "geometry.camera",
    "ClothedSurface": "clothed",
    "Dressed": "appearance",
    "Dye": "appearance",
    "Evidence": "fit.evidence",
    "FitConfig": "fit.config",
    "FitResult": "fit.result",
    "FitStatus": "fit.result",
    "FitTrace": "fit.result",
    "Fitter": "fit.fitter",
    "Frame": "images.frame",
    "Interpenetration": "body.contact.interpenetration",
    "Interval": "body.anthropometry.intervals",
    "Keypoints2D": "keypoints",
    "LMConfig": "solve",
    "Motion": "io.motions",
    "Points3D": "io.points3d",
    "Outfit": "appearance",
    "PosePrior": "body.pose_prior",
    "Registration": "register.registration",
    "Scan": "io.scans.load",
    "SequenceCalibration": "fit.config",
    "SequenceConfig": "fit.config",
    "SilhouetteConfig": "fit.config",
    "SequenceFitter": "fit.sequence.fitter",
    "ShapeResult": "app.shape",
    "StageConfig": "fit.config",
    "Track": "fit.sequence.track",
    "clothed_surface": "clothed",
    "convert_keypoints": "keypoints",
    "detect": "detect",
    "dress": "appearance",
    "evaluate": "evaluate",
    "export": "io.export.formats",
    "fields": "fields",
    "fit": "fit",
    "fit_frames": "app.pipeline",
    "fit_image": "app.pipeline",
    "fit_keypoints": "fit.fitter",
    "fit_points3d": "app.markers",
    "fit_sequence": "fit.sequence.fitter",
    "fit_shape": "app.shape",
    "fit_video": "app.video",
    "interpenetration": "body.contact.interpenetration",
    "load_amass": "io.amass",
    "load_detector": "detect",
    "load_keypoints": "io.keypoints",
    "load_model": "body.model",
    "load_motion": "io.motions",
    "load_motions": "io.motions",
    "load_points3d": "io.points3d",
    "load_pose_prior": "body.pose_prior",
    "load_result": "io.results.params",
    "load_scan": "io.scans.load",
    "load_track": "io.results.track",
    "make_avatar": "avatars",
    "random_bodies": "body.sample",
    "random_outfits": "appearance",
    "read_image": "images.frame",
    "register": "register",
    "render": "render",
    "save": "io.results.params",
    "save_amass": "io.amass",
    "save_keypoints": "io.keypoints",
    "save_track": "io.results.track",
    "skeleton": "skeleton",
}

__all__ = [
    "Avatar",
    "AvatarView",
    "BodyModel",
    "BodyOutput",
    "BodyParams",
    "BodyfitError",
    "CalibratedCamera",
    "Calibration",
    "Camera",
    "ClothedSurface",
    "Dressed",
    "Dye",
    "Evidence",
    "FitConfig",
    "FitResult",
    "FitStatus",
    "FitTrace",
    "Fitter",
    "Frame",
    "Interpenetration",
    "Interval",
    "Keypoints2D",
    "LMConfig",
    "Motion",
    "Outfit",
    "Points3D",
    "PosePrior",
    "Registration",
    "Scan",
    "SequenceCalibration",
    "SequenceConfig",
    "SequenceFitter",
    "ShapeResult",
    "SilhouetteConfig",
    "StageConfig",
    "Track",
    "__version__",
    "clothed_surface",
    "convert_keypoints",
    "detect",
    "dress",
    "evaluate",
    "export",
    "fields",
    "fit",
    "fit_frames",
    "fit_image",
    "fit_keypoints",
    "fit_points3d",
    "fit_sequence",
    "fit_shape",
    "fit_video",
    "interpenetration",
    "load_amass",
    "load_detector",
    "load_keypoints",
    "load_model",
    "load_motion",
    "load_motions",
    "load_points3d",
    "load_pose_prior",
    "load_result",
    "load_scan",
    "load_track",
    "make_avatar",
    "random_bodies",
    "random_outfits",
    "read_image",
    "register",
    "render",
    "save",
    "save_amass",
    "save_keypoints",
    "save_track",
    "skeleton",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        home = import_module(f"bodyfit.{_HOME[name]}")
        return home if _HOME[name] == name else getattr(home, name)
    raise AttributeError(f"module 'bodyfit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
