"""Results to files and back."""

from bodyfit.io.atomic import write_atomically
from bodyfit.io.keypoints import KeypointFiles, load_keypoints, save_keypoints
from bodyfit.io.mesh import save_glb, save_obj
from bodyfit.io.model_file import save_model
from bodyfit.io.params import load_result, save, save_params
from bodyfit.io.picture import save_picture
from bodyfit.io.summary import write_json

__all__ = [
    "KeypointFiles",
    "load_keypoints",
    "load_result",
    "save",
    "save_glb",
    "save_keypoints",
    "save_model",
    "save_obj",
    "save_params",
    "save_picture",
    "write_atomically",
    "write_json",
]
