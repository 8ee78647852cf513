"""Compositional feature fields: scenes of posed bodies drawn by one network, every factor of which is set by itself."""

from __future__ import annotations

from bodyfit.fields.compositional.draw import FieldDrawing, draw_fields
from bodyfit.fields.compositional.field_set import FieldSet, load_fields, save_fields
from bodyfit.fields.compositional.invert import fit_codes
from bodyfit.fields.compositional.network import FieldNetwork, NetworkConfig
from bodyfit.fields.compositional.operator import Composited, composite
from bodyfit.fields.compositional.scene import BodyField, FieldCamera, FieldScene

__all__ = [
    "BodyField",
    "Composited",
    "FieldCamera",
    "FieldDrawing",
    "FieldNetwork",
    "FieldScene",
    "FieldSet",
    "NetworkConfig",
    "composite",
    "draw_fields",
    "fit_codes",
    "load_fields",
    "save_fields",
]
