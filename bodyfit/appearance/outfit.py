"""What a person wears and looks like: names of the catalogue, dyes and colours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any

from bodyfit.appearance.catalogue import catalogue, irises, pieces, skins
from bodyfit.errors import OptionError

__all__ = ["PATTERNS", "RGB", "Dye", "Outfit"]

RGB = tuple[float | int, float | int, float | int]
"""An sRGB colour, each part in [0, 1]."""
PATTERNS = ("plain", "stripes", "columns", "checks", "dots", "blocks")
"""What a dye draws: one colour, or two in horizontal or vertical stripes, checks, dots, or above each other."""


@dataclass(frozen=True)
class Dye:
    """The colour that a piece gets in place of its own; folds, seams and prints stay."""

    color: RGB
    """sRGB in [0, 1]."""
    pattern: str = "plain"
    """One of `PATTERNS`."""
    second: RGB = (1.0, 1.0, 1.0)
    """The pattern's other colour."""
    repeats: float | int = 14.0
    """How often the pattern repeats over the texture."""

    def __post_init__(self) -> None:
        if self.pattern not in PATTERNS:
            raise OptionError(f"pattern must be one of {', '.join(PATTERNS)}, got {self.pattern!r}")
        for color in (self.color, self.second):
            if len(color) != 3 or not all(0 <= part <= 1 for part in color):
                raise OptionError(f"a colour must be three numbers in [0, 1], got {color}; divide bytes by 255")
        if not 0 < self.repeats <= 200:
            raise OptionError(f"repeats must lie in 0 to 200, got {self.repeats:g}")


@dataclass(frozen=True)
class Outfit:
    """One person's clothes and looks. None leaves a piece out; pieces without a dye keep the colours they came with."""

    skin: str = "skin_young_caucasian_female"
    """Name of a skin (`catalogue.skins`)."""
    upper: str | None = None
    """A shirt, blouse or jacket."""
    lower: str | None = None
    """Trousers or a skirt."""
    whole: str | None = None
    """What is upper and lower at once, in place of both."""
    shoes: str | None = None
    """Shoes, with socks."""
    hat: str | None = None
    """A hat; hair that does not fit under it is left out."""
    hair: str | None = None
    """Hair on the head."""
    brows: str | None = "eyebrow001"
    """Eyebrows."""
    lashes: str | None = "eyelashes01"
    """Eyelashes."""
    iris: str = "brown_eye"
    """Colour of the eyes (`catalogue.irises`)."""
    hair_color: RGB = (0.16, 0.11, 0.08)
    """Of hair and brows."""
    skin_tone: float | int = 0.0
    """How much lighter (positive) or darker the skin is than it came, in CIELAB's lightness; -15 to 15."""
    dyes: dict[str, Dye] = field(default_factory=dict)
    """The dye of a piece, by its kind: upper, lower, whole, shoes or hat."""

    def __post_init__(self) -> None:
        if self.skin not in skins():
            raise OptionError(f"there is no skin {self.skin!r}; there are {', '.join(skins())}")
        if self.iris not in irises():
            raise OptionError(f"there is no iris {self.iris!r}; there are {', '.join(irises())}")
        for kind, name in self.pieces():
            if name not in pieces(kind):
                raise OptionError(f"{kind} must be one of {', '.join(pieces(kind))} or None, got {name!r}")
        if self.whole is not None and (self.upper is not None or self.lower is not None):
            raise OptionError("whole takes the place of upper and lower: give either")
        if not -15 <= self.skin_tone <= 15:
            raise OptionError(f"skin_tone must lie in -15 to 15, got {self.skin_tone:g}")
        if wrong := sorted(set(self.dyes) - {"upper", "lower", "whole", "shoes", "hat"}):
            raise OptionError(f"dyes are for upper, lower, whole, shoes and hat, got {', '.join(wrong)}")

    def pieces(self) -> tuple[tuple[str, str], ...]:
        """Kind and name of each piece that is worn, from the inside out; eyes are always among those drawn."""
        kinds = ("brows", "lashes", "shoes", "lower", "upper", "whole", "hair", "hat")
        worn = {f.name: getattr(self, f.name) for f in fields(self)}
        return tuple((kind, worn[kind]) for kind in kinds if worn[kind] is not None)

    def changed(self, text: str) -> Outfit:
        """The outfit with some of it changed: `upper=jacket, lower=skirt, hat=none, upper.color=#334455`.

        Fields are those of the record by their names, "none" leaves a piece out; a kind's dye has .color, .second,
        .pattern and .repeats, colours as #rrggbb. Raises `OptionError`, naming what is wrong.
        """
        values: dict[str, Any] = {}
        dyes = dict(self.dyes)
        for entry in (part.strip() for part in text.split(",") if part.strip()):
            name, equals, value = (part.strip() for part in entry.partition("="))
            kind, dot, part = name.partition(".")
            if not equals or not value:
                raise OptionError(f"an outfit is name=value, name=value; got {entry!r}")
            if dot:
                dyes[kind] = _dye_with(dyes.get(kind), name, part, value)
            elif name in {f.name for f in fields(self)} - {"dyes"}:
                values[name] = _value(name, value)
            else:
                raise OptionError(f"an outfit has no {name!r}; it has {', '.join(f.name for f in fields(self))}")
        if values.get("whole") is not None:
            values = {"upper": None, "lower": None} | values
        elif values.get("upper") or values.get("lower"):
            values = {"whole": None} | values
        return replace(self, **values, dyes=dyes)

    @property
    def age(self) -> str:
        """How old the skin looks."""
        return catalogue()["skins"][self.skin]["age"]


def _value(name: str, text: str) -> Any:
    if name == "skin_tone":
        return _number(name, text)
    if name == "hair_color":
        return _color(name, text)
    return None if text.lower() == "none" else text


def _dye_with(dye: Dye | None, name: str, part: str, text: str) -> Dye:
    """A dye with one of its fields read from text."""
    readers = {"color": _color, "second": _color, "pattern": lambda _, value: value, "repeats": _number}
    if part not in readers:
        raise OptionError(f"a dye has {', '.join(readers)}, got {name!r}")
    return replace(dye or Dye((0.5, 0.5, 0.5)), **{part: readers[part](name, text)})


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise OptionError(f"{name} must be a number, got {text!r}") from None


def _color(name: str, text: str) -> RGB:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise OptionError(f"{name} must be a colour as #rrggbb, got {text!r}")
    r, g, b = bytes.fromhex(text[1:])
    return (r / 255, g / 255, b / 255)
