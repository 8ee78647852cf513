"""The radiance field of a dressed person in the canonical body's space: trained on pictures, drawn in any pose."""

from __future__ import annotations

from bodyfit.fields.radiance.config import RadianceConfig
from bodyfit.fields.radiance.field import FieldPicture, RadianceField
from bodyfit.fields.radiance.fit import fit_field

__all__ = ["FieldPicture", "RadianceConfig", "RadianceField", "fit_field"]
