"""Rendering: a fast CPU rasteriser for PyTorch3D, and pictures of bodies: overlays, studio views, turntables, maps."""

from bodyfit.raster.rasterize import MeshRasterizer, RasterizationSettings
from bodyfit.render.color import Color, part_colors, person_color
from bodyfit.render.dressed import DressedPicture, render_dressed
from bodyfit.render.insets import INSETS, InsetParts, draw_insets, inset_parts
from bodyfit.render.light import StudioLights
from bodyfit.render.maps import MAPS, Maps, draw_maps, normal_colors
from bodyfit.render.pictures import contact_sheet, overlay, side_view, top_view, turn_view
from bodyfit.render.scene import Paint, Texture, undrawn
from bodyfit.render.shade import Layer, pytorch3d_cameras, render_bodies
from bodyfit.render.silhouettes import draw_silhouettes
from bodyfit.render.stage import VIEWS, Stage, studio, turntable

__all__ = [
    "INSETS",
    "MAPS",
    "VIEWS",
    "Color",
    "DressedPicture",
    "InsetParts",
    "Layer",
    "Maps",
    "MeshRasterizer",
    "Paint",
    "RasterizationSettings",
    "Stage",
    "StudioLights",
    "Texture",
    "contact_sheet",
    "draw_insets",
    "draw_maps",
    "draw_silhouettes",
    "inset_parts",
    "normal_colors",
    "overlay",
    "part_colors",
    "person_color",
    "pytorch3d_cameras",
    "render_bodies",
    "render_dressed",
    "side_view",
    "studio",
    "top_view",
    "turn_view",
    "turntable",
    "undrawn",
]
