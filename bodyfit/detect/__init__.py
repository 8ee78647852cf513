"""Keypoint detectors, each behind the one protocol of `detect.base`."""

from __future__ import annotations

from bodyfit.detect.base import Detector, Follower
from bodyfit.detect.registry import DEFAULT, DETECTORS, detector_names, load_detector, sees_masks, sees_parts

__all__ = [
    "DEFAULT",
    "DETECTORS",
    "Detector",
    "Follower",
    "detector_names",
    "load_detector",
    "sees_masks",
    "sees_parts",
]
