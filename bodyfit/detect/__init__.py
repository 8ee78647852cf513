"""Keypoint detectors, each behind the one protocol of `detect.base`."""

from __future__ import annotations

from bodyfit.detect.base import DEFAULT, DETECTORS, Detector, Follower, detector_names, load_detector

__all__ = ["DEFAULT", "DETECTORS", "Detector", "Follower", "detector_names", "load_detector"]
