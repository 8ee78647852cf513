"""Results to files and back."""

from bodyfit.io.atomic import write_atomically
from bodyfit.io.keypoints import KeypointFiles, load_keypoints, save_keypoints
from bodyfit.io.mesh import save_glb, save_obj
from bodyfit.io.model_file import save_model
from bodyfit.io.params import load_result, save, save_params
from bodyfit.io.picture import save_array, save_depth, save_gif, save_labels, save_picture
from bodyfit.io.summary import write_json
from bodyfit.io.track import load_track, save_track
from bodyfit.io.video import VideoReader
from bodyfit.io.video_writer import VideoWriter

__all__ = [
    "KeypointFiles",
    "VideoReader",
    "VideoWriter",
    "load_keypoints",
    "load_result",
    "load_track",
    "save",
    "save_array",
    "save_depth",
    "save_gif",
    "save_glb",
    "save_keypoints",
    "save_labels",
    "save_model",
    "save_obj",
    "save_params",
    "save_picture",
    "save_track",
    "write_atomically",
    "write_json",
]
