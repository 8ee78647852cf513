"""One person through a clip."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from bodyfit.errors import OptionError, ShapeError, check_shape
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.timeline import is_even

__all__ = ["Track"]


@dataclass(frozen=True)
class Track:
    """One person's body in every frame from the first to the last that shows them; raises `ShapeError`, `OptionError`
    for arrays that do not belong together."""

    id: int
    """The person's number in the clip, from 0 in the order of appearance."""
    frames: Int[np.ndarray, "T"]
    """Frame numbers in the clip, from 0: ascending in equal steps (1, or the stride with which the clip was read)."""
    times_s: Float[np.ndarray, "T"]
    """When each frame is shown, seconds from the clip's first frame, ascending; unequal steps in clips whose frame rate
    varies."""
    fps: float
    """Rows a second where the clip's frames are even in time; else the even rate that files which need one get
    (`timeline.clock_rate`), the same for all people of the clip."""
    seen: Bool[np.ndarray, "T"]
    """False where nobody saw the person and the motion fills a gap."""
    result: FitResult
    """The bodies, batch T, one shape for all."""
    origin_s: float = 0.0
    """Where exported files count time from, seconds from the clip's first frame: the start of the part that was read;
    the same for all people of the clip."""

    def __post_init__(self) -> None:
        n = len(self.result)
        for name in ("frames", "times_s", "seen"):
            check_shape(f"track {self.id}: {name}", getattr(self, name), (n,), hint="one row a body")
        if n == 0:
            raise ShapeError(f"track {self.id} is empty; it needs at least one frame")
        steps = np.diff(self.frames)
        if self.frames[0] < 0 or bool((steps < 1).any() or (steps != steps[:1]).any()):
            raise OptionError(f"track {self.id}: frames must ascend from 0 or later in equal steps")
        if not bool(np.isfinite(self.times_s).all() and (np.diff(self.times_s) > 0).all()):
            raise OptionError(f"track {self.id}: times_s must ascend")
        if not self.fps > 0:
            raise OptionError(f"track {self.id}: fps must be positive, got {self.fps}")
        if not 0 <= self.origin_s <= self.times_s[0]:
            raise OptionError(f"track {self.id}: origin_s must be from 0 to times_s[0], got {self.origin_s}")
        betas = self.result.params.betas
        if not bool(betas[1:].allclose(betas[:1], equal_nan=True)):
            raise OptionError(f"track {self.id}: a person has one shape, the rows of betas differ")

    @property
    def clock_s(self) -> Float[np.ndarray, "T"]:
        """When each row is shown on the clock that all people of the clip share, in every file: from `origin_s` on."""
        return self.times_s - self.origin_s

    @property
    def even(self) -> bool:
        """Whether the rows follow each other in steps of 1 / fps."""
        return is_even(self.times_s, self.fps)

    @property
    def poor(self) -> bool:
        """Whether most of the frames that show the person have poor bodies."""
        return self.poor_frames > int(self.seen.sum()) / 2

    @property
    def poor_frames(self) -> int:
        """How many frames have poor bodies."""
        return sum(status is FitStatus.POOR for status in self.result.status)

    @property
    def reason(self) -> str | None:
        """Why most of the poor frames are poor, in words; None where none is."""
        rows = zip(self.result.status, self.result.reason, strict=True)
        reasons = Counter(why for status, why in rows if status is FitStatus.POOR and why)
        return reasons.most_common(1)[0][0] if reasons else None

    def __len__(self) -> int:
        return len(self.result)
