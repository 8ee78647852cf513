"""Read 2D keypoints from files of other programs and bodyfit, and write them."""

from bodyfit.io.keypoints.clip import ClipKeypoints
from bodyfit.io.keypoints.own import save_keypoints
from bodyfit.io.keypoints.source import KeypointFiles, Match, load_keypoints

__all__ = ["ClipKeypoints", "KeypointFiles", "Match", "load_keypoints", "save_keypoints"]
