"""Read 3D points of a body from motion-capture files."""

from bodyfit.io.points3d.load import is_points3d, load_points3d
from bodyfit.io.points3d.record import BodyPoints, Points3D

__all__ = ["BodyPoints", "Points3D", "is_points3d", "load_points3d"]
