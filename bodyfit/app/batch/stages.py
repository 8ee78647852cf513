"""The stages of a batch, the same for every engine: look at a picture, fit many people at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from bodyfit.app.batch.items import Item, read_item
from bodyfit.app.batch.pool import Failure, in_words
from bodyfit.errors import BodyfitError, ImageError
from bodyfit.images.frame import Frame
from bodyfit.keypoints import Keypoints2D

if TYPE_CHECKING:  # a worker that looks needs no torch
    from bodyfit.app.pipeline import Lens
    from bodyfit.body.model import BodyModel
    from bodyfit.fit.config import FitConfig
    from bodyfit.fit.result import FitResult
    from bodyfit.io.keypoints import KeypointFiles

__all__ = ["Answer", "Fitting", "Looking", "Seen", "fitted"]

_PEOPLE_AT_ONCE = 64
_WAIT_S = 3.0
"""So many people are fitted together, or whoever has come since this long: one alone costs ten times as much."""


@dataclass(frozen=True)
class Seen:
    """Who is in a picture."""

    image_size: tuple[int, int]
    """Width and height, pixels."""
    exif_focal_px: float | None
    """Of `Frame`."""
    people: tuple[Keypoints2D, ...]
    """The largest person first."""

    def frame(self) -> Frame:
        """A frame of the size, all black, that takes no memory: the fit looks at no pixel."""
        width, height = self.image_size
        black = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (height, width, 3))
        return Frame(black, exif_focal_px=self.exif_focal_px)


Answer = "FitResult | Failure | None"
"""What becomes of an item: its people in one result, the reason why not, None where nobody is seen."""


@dataclass(frozen=True)
class Looking:
    """Makes, in a worker, what finds the people of one item; travels there by pickle."""

    detector: str
    """Name of the detector."""
    tta: bool = False
    """Whether it looks at everyone many times."""
    keypoints: KeypointFiles | None = None
    """What is known instead, by the pictures' names."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Whether it looks for "hands" and "face"; a detector that cannot leaves them out."""

    def __call__(self) -> Callable[[Item], Seen]:
        """The detector, loaded. Raises `DetectorError` and `OptionError`."""
        from bodyfit.detect import load_detector, sees_parts

        parts = self.parts if any(self.parts.values()) and sees_parts(self.detector) else {}
        detector = self.keypoints or load_detector(self.detector, tta=self.tta, **parts)

        def look(item: Item) -> Seen:
            frame = read_item(item.source)
            try:
                (people,) = detector.detect([frame])
            except MemoryError:
                raise ImageError(f"{item.source}: {frame.size} pixels are more than the memory holds") from None
            return Seen(frame.size, frame.exif_focal_px, tuple(people))

        return look


@dataclass(frozen=True)
class Fitting:
    """Makes what fits the people of several pictures; may travel by pickle, too."""

    model: BodyModel
    """The body, on its device."""
    lens: Lens
    """What is known of the lens."""
    config: FitConfig | None = None
    """Settings other than the usual."""

    def __call__(self) -> Callable[[Sequence[Seen]], list[FitResult | Failure | None]]:
        """The fit, which keeps what it makes for each layout of keypoints.

        Where it fails, it goes on with one picture after the other, so that it costs the one whose fault it is.
        Raises `BodyfitError` where the GPU has failed, for it fails every picture then.
        """
        import torch

        from bodyfit.app.pipeline import fit_detections
        from bodyfit.fit.result import join

        fitters: dict[str, Any] = {}

        def fit(seen: Sequence[Seen]) -> list[FitResult | Failure | None]:
            frames, people = [s.frame() for s in seen], [s.people for s in seen]
            # The cores are busy looking: of two threads one would wait for the other, and burn time doing so.
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
            try:
                how = {"model": self.model, "lens": self.lens, "config": self.config}
                found = fit_detections(frames, people, fitters=fitters, **how)
            except torch.AcceleratorError as fault:
                raise BodyfitError(
                    f"the GPU has failed ({in_words(fault)}); what is finished is safe: go on with resume=True"
                ) from fault
            except Exception as fault:
                if len(seen) == 1:
                    return [Failure(in_words(fault))]
                return [answer for one in seen for answer in fit([one])]
            finally:
                torch.set_num_threads(threads)
            return [join(each) if each else None for each in found]

        return fit


def fitted(
    answers: Iterator[tuple[Item, Seen | Failure] | None],
    fit: Callable[[Sequence[Seen]], list[FitResult | Failure | None]],
) -> Iterator[tuple[Item, FitResult | Failure | None]]:
    """What comes of the items as it comes, people fitted many at once; `answers` says None when a moment has passed."""
    waiting: list[tuple[Item, Seen]] = []
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
