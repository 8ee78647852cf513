"""Cast rays past posed bodies and map the samples into one canonical body's space."""

from __future__ import annotations

from bodyfit.fields.casting.anchors import AnchorWeights, SurfaceAnchors, surface_anchors
from bodyfit.fields.casting.canonical import CanonicalBody, PosedBody, canonical_body, pose_bodies
from bodyfit.fields.casting.cast import CastConfig, cast_rays
from bodyfit.fields.casting.rays import Rays, camera_rays
from bodyfit.fields.casting.samples import RaySamples
from bodyfit.fields.casting.volume import NearestVolume, nearest_volume

__all__ = [
    "AnchorWeights",
    "CanonicalBody",
    "CastConfig",
    "NearestVolume",
    "PosedBody",
    "RaySamples",
    "Rays",
    "SurfaceAnchors",
    "camera_rays",
    "canonical_body",
    "cast_rays",
    "nearest_volume",
    "pose_bodies",
    "surface_anchors",
]
