"""The stages of a batch, the same for every engine: detect the people of an image, fit many people at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from bodyfit.app.batch.items import Item, read_item
from bodyfit.app.batch.pool import Failure, in_words
from bodyfit.errors import BodyfitError, ImageError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

if TYPE_CHECKING:  # a worker that looks needs no torch
    from bodyfit.app.estimates import EstimateFiles
    from bodyfit.app.pipeline import Lens
    from bodyfit.body.model import BodyModel
    from bodyfit.body.params import BodyParams
    from bodyfit.fit.config import FitConfig
    from bodyfit.fit.result import FitResult
    from bodyfit.io.keypoints import KeypointFiles
    from bodyfit.io.masks import MaskFiles

__all__ = ["Answer", "DetectedPeople", "Fitting", "Looking", "fitted"]

_PEOPLE_AT_ONCE = 64
_WAIT_S = 3.0
"""Fits start when so many people wait, or after this time: a person fitted alone costs ten times as much."""


@dataclass(frozen=True)
class DetectedPeople:
    """People detected in an image."""

    image_size: tuple[int, int]
    """Width and height, pixels."""
    exif_focal_px: float | None
    """`Frame.exif_focal_px`, or the focal length in the file of the depth map."""
    people: tuple[Keypoints2D, ...]
    """People by size, the largest first."""
    depth_m: Float[np.ndarray, "H W"] | None = None
    """The image's depth map; None without one."""
    source: str = ""
    """Path or address of the image."""

    def frame(self) -> Frame:
        """Make a black frame of this size that takes no memory, for fits, which read no pixels."""
        width, height = self.image_size
        black = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
        return Frame(black, exif_focal_px=self.exif_focal_px)

    def on_depth(self, folder: Path, item: Item) -> DetectedPeople:
        """Add the depth map of an item's image from a folder. Raises `ScanError`."""
        from bodyfit.io.scans.depth import find_depth, load_depth  # bodyfit.io loads torch

        path = find_depth(folder, Path(item.source))
        depth = load_depth(path).at_size(self.image_size, path)
        focal = self.exif_focal_px if depth.focal_px is None else depth.focal_px
        return replace(self, exif_focal_px=focal, depth_m=depth.depth_m.astype(np.float32))


Answer = "FitResult | Failure | None"
"""Outcome of an item: a result with its people, a `Failure`, or None if nobody was detected."""


@dataclass(frozen=True)
class Looking:
    """Picklable factory of the function that detects people, for use in a worker process."""

    detector: str
    """Name of the detector."""
    tta: bool = False
    """Detect with test-time augmentation."""
    keypoints: KeypointFiles | None = None
    """Keypoint files to use instead of a detector, by the names of images."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Whether to detect "hands" and "face"; ignored by detectors that cannot."""
    silhouette: bool = False
    """Whether to have the detector's masks."""
    masks: MaskFiles | None = None
    """Files of masks to use instead of these, by the names of images."""
    depth: Path | None = None
    """Folder of depth maps, by the names of images."""

    def __call__(self) -> Callable[[Item], DetectedPeople]:
        """Load the detector and return the function that detects people.

        Raises `DetectorError` and `OptionError`.
        """
        from bodyfit.detect import load_detector, sees_parts

        parts = self.parts if any(self.parts.values()) and sees_parts(self.detector) else {}
        detector = self.keypoints or load_detector(self.detector, tta=self.tta, masks=self.silhouette, **parts)

        def look(item: Item) -> DetectedPeople:
            frame = read_item(item.source)
            try:
                (people,) = detector.detect([frame])
            except MemoryError:
                raise ImageError(f"{item.source}: {frame.size} pixels are more than the memory holds") from None
            if self.masks is not None:
                from bodyfit.io.masks import with_masks  # bodyfit.io loads torch, which takes memory of every worker

                people = with_masks(people, frame, self.masks)
            seen = DetectedPeople(frame.size, frame.exif_focal_px, tuple(people), source=item.source)
            return seen if self.depth is None else seen.on_depth(self.depth, item)

        return look


@dataclass(frozen=True)
class Fitting:
    """Picklable factory of the function that fits the people of several images."""

    model: BodyModel
    """Body model, on its device."""
    lens: Lens
    """Focal length or field of view of the camera."""
    config: FitConfig | None = None
    """Settings of the fit; None for the default ones."""
    estimates: EstimateFiles | None = None
    """Bodies that another program estimated, by the names of images."""

    def __call__(self) -> Callable[[Sequence[DetectedPeople]], list[FitResult | Failure | None]]:
        """Return the function that fits people; it keeps a fitter for each keypoint layout.

        If a fit fails, the function fits image by image, so that only the faulty one is lost; one whose estimate cannot
        be read fails alone. It raises `BodyfitError` if the GPU fails, after which every fit would fail.
        """
        import torch

        from bodyfit.app.pipeline import fit_detections
        from bodyfit.fit.result import join

        fitters: dict[str, Any] = {}

        def fit(seen: Sequence[DetectedPeople]) -> list[FitResult | Failure | None]:
            if self.estimates is None:
                return fit_with(seen, None)
            read = [self._estimates(one) for one in seen]
            some = [(one, bodies) for one, bodies in zip(seen, read, strict=True) if not isinstance(bodies, Failure)]
            answers = iter(fit_with([one for one, _ in some], [bodies for _, bodies in some]) if some else [])
            return [bodies if isinstance(bodies, Failure) else next(answers) for bodies in read]

        def fit_with(
            seen: Sequence[DetectedPeople], bodies: Sequence[list[BodyParams | None]] | None
        ) -> list[FitResult | Failure | None]:
            frames, people = [s.frame() for s in seen], [s.people for s in seen]
            # The cores are busy looking: of two threads one would wait for the other, and burn time doing so.
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                how = {"model": self.model, "lens": self.lens, "config": self.config}
                maps = [one.depth_m for one in seen]
                found = fit_detections(frames, people, fitters=fitters, depth=maps, estimates=bodies, **how)
            except torch.AcceleratorError as fault:
                raise BodyfitError(
                    f"the GPU has failed ({in_words(fault)}); what is finished is safe: go on with resume=True"
                ) from fault
            except Exception as fault:
                if len(seen) == 1:
                    return [Failure(in_words(fault))]
                own = [None] * len(seen) if bodies is None else [[each] for each in bodies]
                return [a for one, each in zip(seen, own, strict=True) for a in fit_with([one], each)]
            finally:
                torch.set_num_threads(threads)
            return [join(each) if each else None for each in found]

        return fit

    def _estimates(self, seen: DetectedPeople) -> list[BodyParams | None] | Failure:
        """Another program's bodies of the people of an image, None for who has none, or why they cannot be read."""
        from bodyfit.app.estimates import matched

        assert self.estimates is not None
        try:
            bodies = self.estimates.of(seen.source)
        except BodyfitError as fault:
            return Failure(in_words(fault))
        people = list(seen.people)
        nobody: list[BodyParams | None] = [None] * len(people)
        return nobody if bodies is None else matched(bodies, self.model, people, seen.image_size)


def fitted(
    answers: Iterator[tuple[Item, DetectedPeople | Failure] | None],
    fit: Callable[[Sequence[DetectedPeople]], list[FitResult | Failure | None]],
) -> Iterator[tuple[Item, FitResult | Failure | None]]:
    """Yield items with their outcomes, fitting many people at once; None in `answers` marks the passing of time."""
    waiting: list[tuple[Item, DetectedPeople]] = []
    since = people = 0.0
    for answer in answers:
        if answer is not None:
            item, seen = answer
            if isinstance(seen, Failure) or not seen.people:
                yield item, seen if isinstance(seen, Failure) else None
            else:
                since = since if waiting else time.monotonic()
                waiting.append((item, seen))
                people += len(seen.people)
        if people >= _PEOPLE_AT_ONCE or (waiting and time.monotonic() - since > _WAIT_S):
            yield from zip((item for item, _ in waiting), fit([seen for _, seen in waiting]), strict=True)
            waiting, people = [], 0.0
    if waiting:
        yield from zip((item for item, _ in waiting), fit([seen for _, seen in waiting]), strict=True)
