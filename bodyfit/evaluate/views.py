"""Compare folders of drawn views with the true pictures: PSNR, SSIM and a perceptual distance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from bodyfit.detect.networks.perceptual import Perceptual
from bodyfit.errors import ImageError, OptionError
from bodyfit.images.files import looks_like_image
from bodyfit.images.frame import open_picture, read_image
from bodyfit.images.similarity import box_of, psnr_db, ssim

__all__ = ["ViewScore", "compare_views"]

_MOST_DB = 99.0
"""What equal pictures count in a mean."""


@dataclass(frozen=True)
class ViewScore:
    """How like the truth a drawn view is."""

    name: str
    """The picture's name without its suffix."""
    psnr_db: float
    """Peak signal-to-noise ratio; 99 for equal pictures."""
    ssim: float
    """Structural similarity."""
    perceptual: float
    """Distance of features (`Perceptual`): less is more alike."""


def compare_views(drawn: Path, truth: Path) -> tuple[list[ViewScore], list[str]]:
    """Compare the pictures of two folders that have the same names; returns scores and names without a partner.

    Transparent pixels are white. Where the true picture has transparent pixels, what counts is the box about those that
    are not. Raises `OptionError` where no name is in both, `ImageError` for pictures of different sizes.
    """
    ours, theirs = _pictures(drawn), _pictures(truth)
    names = sorted(ours.keys() & theirs.keys())
    if not names:
        raise OptionError(f"{drawn} and {truth} have no picture of one name; views are compared by their names")
    measure, scores = Perceptual(), []
    for name in names:
        picture, goal = read_image(ours[name]).image, read_image(theirs[name]).image
        if picture.shape != goal.shape:
            (h, w), (th, tw) = picture.shape[:2], goal.shape[:2]
            raise ImageError(f"{ours[name]} is {w}x{h}, {theirs[name]} is {tw}x{th}; draw views as large as the truth")
        visible = _visible(theirs[name])
        if visible is not None and visible.shape == goal.shape[:2] and visible.any():
            picture, goal = picture[box_of(visible)], goal[box_of(visible)]
        psnr = min(psnr_db(picture, goal), _MOST_DB)
        scores.append(ViewScore(name, psnr, ssim(picture, goal), measure.distance(picture, goal)))
    return scores, sorted(ours.keys() ^ theirs.keys())


def _pictures(folder: Path) -> dict[str, Path]:
    """List the pictures of a folder by their names. Raises `OptionError`."""
    if not folder.is_dir():
        raise OptionError(f"{folder} is no folder; give folders of pictures")
    return {path.stem: path for path in sorted(folder.iterdir()) if path.is_file() and looks_like_image(path)}


def _visible(path: Path) -> Bool[np.ndarray, "H W"] | None:
    """Read where a picture is not transparent; None where it has no transparency."""
    with open_picture(path) as opened:
        if "A" not in opened.getbands():
            return None
        return np.asarray(opened.getchannel("A")) >= 128
