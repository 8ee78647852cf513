"""Surfaces that no body can follow (skirts, long hair, bags): carved from voxels, cubified, refined."""

from __future__ import annotations

from bodyfit.register.free_surface.run import FreeSurface, surface_of_masks, surface_of_scan
from bodyfit.register.free_surface.views import CarveView

__all__ = ["CarveView", "FreeSurface", "surface_of_masks", "surface_of_scan"]
