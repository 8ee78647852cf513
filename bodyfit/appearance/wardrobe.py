"""Draw outfits at random, as people dress: what goes with what, colours of cloth, hair by age, skins of all kinds."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from typing import TypeVar

import numpy as np

from bodyfit.appearance.catalogue import AGES, catalogue, irises, pieces, skins
from bodyfit.appearance.outfit import RGB, Dye, Outfit
from bodyfit.body.record import GENDERS
from bodyfit.errors import OptionError

__all__ = ["random_outfits"]

_UPPER = {
    "women": {
        **{"tee_women": 4, "blouse": 3, "crop_top": 1, "long_sleeves": 2, "striped_shirt": 1.5, "loose_tee": 2},
        **{"jacket": 1.2, "vest_and_shirt": 0.5},
    },
    "men": {
        **{"tee_men": 4, "loose_tee": 2.5, "long_sleeves": 3, "striped_shirt": 2.5, "vest_and_shirt": 1.2, "jacket": 2},
    },
}
_LOWER = {
    "women": {
        **{"jeans_women": 5, "sports_trousers": 2, "skirt": 2.5, "shorts": 1.5, "suit_trousers": 1.5, "dungarees": 1},
    },
    "men": {"jeans_men": 5, "suit_trousers": 3, "shorts": 1.5, "dungarees": 1},
}
"""How often each piece is worn, relative to the others."""
_UNDER_DUNGAREES = "work_tee"
_FORMAL = ("jacket", "vest_and_shirt")
"""They hang over shorts, below which bare legs would seem to be all there is."""
_WITH_JACKET = {"suit_trousers": 4, "jeans_women": 1, "jeans_men": 1.5, "skirt": 1}
_WHOLE = 0.05
"""How often both are one piece."""
_HAIR = {
    "women": {"bob01": 2, "bob02": 2, "long01": 3, "ponytail01": 3, "braid01": 1.5, "short03": 2, "afro01": 0.4},
    "men": {"short01": 2.5, "short02": 3, "short04": 3, "afro01": 0.4},
}
_TOO_FULL = ("afro01", "bob01", "braid01")
"""Hair that stands out under a hat."""
_HAT, _NO_HAIR = 0.07, {"young": 0.06, "middleage": 0.15, "old": 0.3}
_AGES = {"young": 0.45, "middleage": 0.35, "old": 0.2}
_GRAY_HAIR = {"young": 0.02, "middleage": 0.2, "old": 0.85}
_HAIR_COLORS: Mapping[RGB, float | int] = {
    **{(0.09, 0.075, 0.07): 4, (0.16, 0.11, 0.08): 3, (0.27, 0.18, 0.12): 3, (0.40, 0.27, 0.17): 2},
    **{(0.62, 0.48, 0.31): 1.5, (0.78, 0.66, 0.47): 1, (0.47, 0.22, 0.12): 0.5},
}
"""Black, browns, blonds and red, as sRGB at the strands' usual brightness."""
_DARK_HAIR = 2
"""So many of these colours, the first, are those of people of dark skin or Asian descent."""
_GRAYS: Mapping[RGB, float | int] = {(0.42, 0.41, 0.40): 2, (0.62, 0.61, 0.60): 2, (0.72, 0.71, 0.69): 1}
_DENIM: Mapping[RGB, float | int] = {
    **{(0.30, 0.40, 0.55): 3, (0.17, 0.22, 0.33): 3, (0.13, 0.13, 0.14): 2, (0.52, 0.60, 0.70): 1.5},
    **{(0.45, 0.45, 0.46): 1, (0.62, 0.55, 0.43): 1},
}
_SUITS: Mapping[RGB, float | int] = {
    **{(0.10, 0.10, 0.11): 3, (0.12, 0.15, 0.23): 3, (0.28, 0.28, 0.29): 2, (0.30, 0.24, 0.19): 1},
    **{(0.55, 0.49, 0.40): 0.7, (0.18, 0.22, 0.18): 0.5},
}
_LEATHER: Mapping[RGB, float | int] = {
    **{
        (0.10, 0.09, 0.09): 3,
        (0.30, 0.18, 0.11): 2,
        (0.75, 0.73, 0.70): 2,
        (0.18, 0.22, 0.33): 1,
        (0.5, 0.12, 0.1): 0.5,
    },
}
_NEUTRALS: Mapping[RGB, float | int] = {
    **{(0.92, 0.91, 0.89): 3, (0.10, 0.10, 0.11): 3, (0.50, 0.50, 0.51): 2, (0.15, 0.18, 0.29): 2},
    **{(0.80, 0.74, 0.63): 1.5, (0.34, 0.35, 0.27): 1},
}
_PATTERNS = {"upper": ("stripes", "stripes", "columns", "checks", "dots", "blocks"), "lower": ("columns", "checks")}
_PATTERNED = {"upper": 0.35, "lower": 0.08, "whole": 0.0, "shoes": 0.0, "hat": 0.0}
_Key = TypeVar("_Key")
_STREAM = 5
"""Sets the draws of outfits apart from those of shapes and poses of the same seed."""


def random_outfits(n: int, seed: int = 0, *, gender: str = "neutral") -> tuple[Outfit, ...]:
    """Draw `n` outfits; gender: "male" or "female" is whose clothes, hair and skins they are, "neutral" draws that too.

    The same seed gives the same outfits, and outfit i does not depend on `n`. Raises `OptionError`.
    """
    if n < 0 or seed < 0:
        raise OptionError(f"n and seed must not be negative, got {n} and {seed}")
    if gender not in GENDERS:
        raise OptionError(f"gender must be one of {', '.join(GENDERS)}, got {gender!r}")
    return tuple(_outfit(np.random.default_rng([seed, _STREAM, i]), gender) for i in range(n))


def _outfit(rng: np.random.Generator, gender: str) -> Outfit:
    own = str(rng.choice(["male", "female"])) if gender == "neutral" else gender
    wearer = {"male": "men", "female": "women"}[own]
    age = _one(rng, {name: _AGES[name] for name in AGES})
    skin = str(rng.choice(skins(own, age)))
    clothes = _clothes(rng, wearer)
    hat = str(rng.choice(pieces("hat"))) if rng.random() < _HAT else None
    styles = {name: weight for name, weight in _HAIR[wearer].items() if hat is None or name not in _TOO_FULL}
    hair = None if wearer == "men" and rng.random() < _NO_HAIR[age] else _one(rng, styles)
    return Outfit(
        skin=skin,
        **clothes,
        shoes=str(rng.choice(pieces("shoes", wearer))),
        hat=hat,
        hair=hair,
        brows=str(rng.choice(pieces("brows"))),
        lashes=str(rng.choice(pieces("lashes"))),
        iris=_iris(rng, skin),
        hair_color=_hair_color(rng, age, skin),
        skin_tone=float(np.clip(rng.normal(0, 4), -8, 8).round(1)),
        dyes=_dyes(rng, clothes, with_hat=hat is not None),
    )


def _clothes(rng: np.random.Generator, wearer: str) -> dict[str, str]:
    if rng.random() < _WHOLE:
        return {"whole": str(rng.choice(pieces("whole", wearer)))}
    lower, upper = _one(rng, _LOWER[wearer]), _one(rng, _UPPER[wearer])
    if lower == "dungarees":
        upper = _UNDER_DUNGAREES
    elif upper in _FORMAL:
        lower = _one(rng, {name: weight for name, weight in _WITH_JACKET.items() if name in _LOWER[wearer]})
    return {"upper": upper, "lower": lower}


def _dyes(rng: np.random.Generator, clothes: Mapping[str, str], *, with_hat: bool) -> dict[str, Dye]:
    dyes = {}
    for kind in (*clothes, "shoes", *(("hat",) if with_hat else ())):
        name = clothes.get(kind, kind)
        no_dye = 0.3 if kind in ("lower", "shoes") else 0.0 if kind == "hat" else 0.12
        palette = _DENIM if "jeans" in name or name in ("shorts", "dungarees") else None
        palette = _SUITS if name in ("jacket", "suit_trousers", "hat", "vest_and_shirt") else palette
        palette = _LEATHER if kind == "shoes" else palette
        color, second = _cloth(rng, palette), _cloth(rng, None)
        patterned = rng.random() < (0 if name in ("jacket", "vest_and_shirt") else _PATTERNED[kind])
        pattern = str(rng.choice(_PATTERNS[kind])) if patterned else "plain"
        if rng.random() >= no_dye:
            dyes[kind] = Dye(color, pattern, second, float(np.round(rng.uniform(8, 30), 1)))
    return dyes


def _cloth(rng: np.random.Generator, palette: Mapping[RGB, float | int] | None) -> RGB:
    """A colour of cloth, a little off those of the palette; without one, neutral, strong or pale."""
    kind = rng.random()
    if palette is not None or kind < 0.45:
        base = _one(rng, palette or _NEUTRALS)
    else:
        strong = kind < 0.8
        saturation = rng.uniform(0.45, 0.85) if strong else rng.uniform(0.15, 0.35)
        base = colorsys.hsv_to_rgb(
            rng.random(), saturation, rng.uniform(0.3, 0.75) if strong else rng.uniform(0.7, 0.9)
        )
    r, g, b = np.clip(np.array(base) * rng.uniform(0.85, 1.15) + rng.normal(0, 0.012, 3), 0.03, 0.95).round(3).tolist()
    return (r, g, b)


def _hair_color(rng: np.random.Generator, age: str, skin: str) -> RGB:
    colors = list(_HAIR_COLORS.items())
    if catalogue()["skins"][skin]["descent"] != "caucasian":
        colors = colors[:_DARK_HAIR]
    base = _one(rng, _GRAYS if rng.random() < _GRAY_HAIR[age] else dict(colors))
    r, g, b = np.clip(np.array(base) * rng.uniform(0.85, 1.2), 0.03, 0.9).round(3).tolist()
    return (r, g, b)


def _iris(rng: np.random.Generator, skin: str) -> str:
    brown = [name for name in irises() if "brown" in name]
    mostly = catalogue()["skins"][skin]["descent"] != "caucasian"
    return str(rng.choice(brown if mostly or rng.random() < 0.4 else irises()))


def _one(rng: np.random.Generator, weights: Mapping[_Key, float | int]) -> _Key:
    """One key, by its weight."""
    keys, values = list(weights), np.array(list(weights.values()), float)
    return keys[int(rng.choice(len(keys), p=values / values.sum()))]
