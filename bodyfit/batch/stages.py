"""The stages of a batch, the same for every engine: look at a picture, fit many people at once, write a picture's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bodyfit.batch.items import Item, read_item
from bodyfit.errors import ImageError
from bodyfit.frame import Frame
from bodyfit.keypoints import Keypoints2D

__all__ = ["Fitting", "Looking", "Seen"]


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


@dataclass(frozen=True)
class Looking:
    """Makes, in a worker, what finds the people of one item; travels there by pickle."""

    detector: str
    """Name of the detector."""

    def __call__(self) -> Callable[[Item], Seen]:
        """The detector, loaded. Raises `DetectorError` and `OptionError`."""
        from bodyfit.detect import load_detector

        detector = load_detector(self.detector)

        def look(item: Item) -> Seen:
            frame = read_item(item.source)
            try:
                (people,) = detector.detect([frame])
            except MemoryError:
                raise ImageError(f"{item.source}: {frame.size} pixels are more than the memory holds") from None
            return Seen(frame.size, frame.exif_focal_px, tuple(people))

        return look


@dataclass
class Fitting:
    """Fits and writes; the model is loaded once."""

    out: Path
    """Folder of the results."""
    model: Any
    """The `BodyModel`."""
    lens: Any
    """The `pipeline.Lens`."""
    fitters: dict[str, Any] = field(default_factory=dict)
    """Made with the first people of a layout."""

    def __call__(self, seen: Sequence[Seen]) -> list[Any]:
        """A `FitResult` of all people of each picture."""
        from bodyfit.fit.result import join
        from bodyfit.pipeline import fit_detections

        frames, people = [s.frame() for s in seen], [s.people for s in seen]
        fits = fit_detections(frames, people, model=self.model, lens=self.lens, fitters=self.fitters)
        return [join(each) for each in fits]

    def write(self, item: Item, result: Any) -> dict[str, Any]:
        """Write a picture's people and return what the run's record says of them. Raises `OutputError`."""
        from bodyfit.io import save

        good = [status.ok for status in result.status]
        if not any(good):
            return {"status": "failed", "why": "too little of the people is visible to place a body"}
        save(result, self.out / item.target)
        errors = [round(float(e), 2) if e == e else None for e in result.reprojection_error_px]
        return {"status": "done", "people": sum(good), "file": item.target, "reprojection_error_px": errors}
