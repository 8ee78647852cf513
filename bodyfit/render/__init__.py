"""Drawing: a fast rasteriser, shading by PyTorch3D, and the pictures made with them."""

from bodyfit.render.pictures import contact_sheet, overlay, person_color, side_view, turn_view
from bodyfit.render.rasterize import MeshRasterizer, RasterizationSettings
from bodyfit.render.shade import Layer, StudioLights, pytorch3d_cameras, render_bodies

__all__ = [
    "Layer",
    "MeshRasterizer",
    "RasterizationSettings",
    "StudioLights",
    "contact_sheet",
    "overlay",
    "person_color",
    "pytorch3d_cameras",
    "render_bodies",
    "side_view",
    "turn_view",
]
