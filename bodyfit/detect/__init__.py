"""Keypoint detectors, each behind the one protocol of `detect.base`."""

from __future__ import annotations

from bodyfit.detect.base import DETECTORS, Detector, load_detector

__all__ = ["DETECTORS", "Detector", "load_detector"]
