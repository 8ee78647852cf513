"""Dress bodies: skins, clothes, shoes, hats, hair, brows, lashes and eyes that follow shape, pose and expression."""

from __future__ import annotations

from bodyfit.appearance.dress import dress
from bodyfit.appearance.dressed import Dressed, DressedPerson, Surface
from bodyfit.appearance.outfit import Dye, Outfit
from bodyfit.appearance.wardrobe import random_outfits

__all__ = ["Dressed", "DressedPerson", "Dye", "Outfit", "Surface", "dress", "random_outfits"]
