"""Masks of people from files: pictures named as the pictures they are of."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, UInt8

from bodyfit.errors import ImageError
from bodyfit.images.frame import Frame, open_picture
from bodyfit.keypoints import Keypoints2D, SoftMask

__all__ = ["MaskFiles", "with_masks"]

_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".webp", ".jpg", ".jpeg")
_PERSON = re.compile(r"(.*)\.person(\d+)")
_MOST_IDS = 64
"""A map of more values is no map of people."""
_SURE = 0.3
"""Confidence from which on keypoints tell whose a mask is."""


class MaskFiles:
    """Masks in a folder, found by the names of pictures.

    For a picture NAME.jpg either one file for each person, NAME.person0.png, NAME.person1.png, in any order; or one
    NAME.png: black and white or grey for one person, or a map of numbers (0 for nobody, another for each person).
    People are given the masks that their keypoints lie on.
    """

    def __init__(self, folder: str | Path) -> None:
        """List the files. Raises `ImageError` for a folder that is none, or without masks."""
        self.folder = Path(folder)
        if not self.folder.is_dir():
            raise ImageError(f"{folder} is no folder; masks are files in one, named as the pictures")
        self._files: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(self.folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES:
                own = _PERSON.fullmatch(path.stem)
                self._files[own.group(1) if own else path.stem].append(path)
        if not self._files:
            raise ImageError(f"{folder} holds no masks (NAME.png or NAME.person0.png for a picture NAME.jpg)")

    def matches(self, pictures: Sequence[Path]) -> list[Path]:
        """List the pictures that have masks."""
        return [picture for picture in pictures if self._of(picture.stem)]

    @property
    def names(self) -> list[str]:
        """Names of the pictures that the masks are of, without suffixes."""
        return list(self._files)

    def of(self, frame: Frame, people: Sequence[Keypoints2D]) -> list[SoftMask | None]:
        """Read the masks of a picture and give each person the one that most of their keypoints lie on.

        None for people whom no mask is of. Raises `ImageError` for a file that cannot be read or is of another size.
        """
        if frame.path is None:
            raise ImageError("masks are found by the picture's name, and this picture has no path")
        return self.named(frame.path.stem, frame.size, people)

    def named(self, name: str, size: tuple[int, int], people: Sequence[Keypoints2D]) -> list[SoftMask | None]:
        """Do as `of` does for a picture by its name without suffix, and its width and height."""
        masks = [mask for path in self._of(name) for mask in self._read(path, size)]
        found: list[SoftMask | None] = [None] * len(people)
        if not masks or not people:
            return found
        share = np.array([[_share_on(mask >= 128, person.xyc) for mask in masks] for person in people])
        # The surest pairs first, each mask and each person once. A mask that nobody lies on is still that of the only
        # person whose mask it can be: the fit says what is wrong with it.
        for at in np.argsort(-share, axis=None, kind="stable"):
            i, k = divmod(int(at), len(masks))
            alone = len(masks) == 1 and len(people) == 1
            if found[i] is None and share[i, k] >= 0 and (share[i, k] > 0.3 or alone):
                found[i] = _cropped(masks[k])
                share[:, k] = -1
        return found

    def _of(self, name: str) -> list[Path]:
        """List the mask files of a picture: one a person where there are some, else one for all."""
        files = self._files.get(name, [])
        single = [path for path in files if _PERSON.fullmatch(path.stem)]
        return single or files[:1]

    def _read(self, path: Path, size: tuple[int, int]) -> list[np.ndarray]:
        """Read a file as one mask or several. Raises `ImageError`."""
        with open_picture(path) as picture:
            if picture.mode in ("P", "I", "I;16", "L", "1"):
                values = np.asarray(picture)
            elif picture.mode in ("RGBA", "LA"):
                values = np.asarray(picture.getchannel("A"))
                if values.min() == 255:  # opaque: colours tell
                    values = np.asarray(picture.convert("L"))
            else:
                values = np.asarray(picture.convert("L"))
        if values.shape != size[::-1]:
            raise ImageError(
                f"{path} is {values.shape[1]}x{values.shape[0]}, its picture is {size[0]}x{size[1]}; masks must be of "
                "the picture's size, upright"
            )
        numbers = np.unique(values)
        if values.dtype == np.bool_:
            return [255 * values.astype(np.uint8)]
        most = int(numbers.max(initial=0))
        if most in (0, 1) or (most == 255 and (len(numbers) <= 2 or len(numbers) > _MOST_IDS)):
            return [(255 if most == 1 else 1) * values.astype(np.uint8)]
        if len(numbers) > _MOST_IDS:
            return [(255 * (values.astype(np.float64) / most)).astype(np.uint8)]
        return [255 * (values == number).astype(np.uint8) for number in numbers.tolist() if number]


def _cropped(alpha: UInt8[np.ndarray, "H W"]) -> SoftMask:
    """Cut a mask to what is not 0 of it."""
    rows, columns = alpha.any(1).nonzero()[0], alpha.any(0).nonzero()[0]
    if len(rows) == 0:
        return SoftMask(alpha[:1, :1], (0, 0))
    part = alpha[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return SoftMask(np.ascontiguousarray(part), (int(columns[0]), int(rows[0])))


def _share_on(inside: Bool[np.ndarray, "H W"], xyc: np.ndarray) -> float:
    """Compute the share of a person's confident keypoints that lie on a mask."""
    sure = xyc[np.nan_to_num(xyc[:, 2]) >= _SURE, :2]
    if len(sure) == 0:
        return 0.0
    at: Int[np.ndarray, "N 2"] = np.floor(sure).astype(int)
    good = ((at >= 0) & (at < inside.shape[::-1])).all(1)
    return float(inside[at[good, 1], at[good, 0]].sum() / len(sure))


def with_masks(people: Sequence[Keypoints2D], frame: Frame, files: MaskFiles | None) -> list[Keypoints2D]:
    """Give the people of a picture the masks of files, in the place of a detector's. Raises `ImageError`."""
    if files is None:
        return list(people)
    return [replace(person, mask=mask) for person, mask in zip(people, files.of(frame, people), strict=True)]
