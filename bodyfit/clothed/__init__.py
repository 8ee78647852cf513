"""The clothed surface of a person in one picture: the body's skin moved out to clothes and hair."""

from bodyfit.clothed.surface import ClothedSurface, clothed_surface

__all__ = ["ClothedSurface", "clothed_surface"]
