"""Register the layouts of other programs' motion files, a line each; the first that matches is used."""

from __future__ import annotations

from bodyfit.io.motions.programs import (
    aist,
    amass,
    body_prior,
    easymocap,
    gvhmr,
    motionx,
    phalp,
    prompthmr,
    romp,
    smplcodec,
    smplerx,
    smplifyx,
    smplx_named,
    threedpw,
    tram,
    vibe,
    wham,
)
from bodyfit.io.motions.recording import MotionFile, MotionFormat

__all__ = ["MOTION_FORMATS", "format_of"]

MOTION_FORMATS: tuple[MotionFormat, ...] = (
    wham.FORMAT,
    vibe.FORMAT,
    vibe.PICTURES,
    romp.FORMAT,
    phalp.FORMAT,
    tram.FORMAT,
    gvhmr.FORMAT,
    prompthmr.FORMAT,
    easymocap.FORMAT,
    aist.FORMAT,
    motionx.FORMAT,
    smplcodec.FORMAT,
    threedpw.FORMAT,
    amass.FORMAT,
    body_prior.FORMAT,
    smplifyx.FORMAT,
    smplerx.FORMAT,
    smplx_named.FORMAT,
)


def format_of(file: MotionFile) -> MotionFormat | None:
    """Detect the layout of a file, or of a folder of frames; None where it is unknown."""
    return next((layout for layout in MOTION_FORMATS if layout.matches(file)), None)
