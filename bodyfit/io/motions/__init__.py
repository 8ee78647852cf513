"""Read motion files of other programs without executing them: one module a layout, one line in the registry."""

from bodyfit.io.motions.formats import MOTION_FORMATS, format_of
from bodyfit.io.motions.load import load_motion, load_motions
from bodyfit.io.motions.motion import Motion

__all__ = ["MOTION_FORMATS", "Motion", "format_of", "load_motion", "load_motions"]
