"""Bodies that other programs estimated, of the people of pictures and of clips."""

from __future__ import annotations

from bodyfit.app.estimates.pictures import EstimateFiles, matched, read_estimates

__all__ = ["EstimateFiles", "matched", "read_estimates"]
