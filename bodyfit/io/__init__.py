"""Results to files and back."""

from bodyfit.io.amass import Motion, load_amass, save_amass
from bodyfit.io.atomic import write_atomically
from bodyfit.io.bodies import Bodies, holds_bodies, read_bodies
from bodyfit.io.formats import EXPORTS, export
from bodyfit.io.mesh import save_glb, save_obj, save_ply
from bodyfit.io.model_file import save_model
from bodyfit.io.params import load_result, save, save_params
from bodyfit.io.picture import save_picture
from bodyfit.io.placing import Placing
from bodyfit.io.summary import write_json

__all__ = [
    "EXPORTS",
    "Bodies",
    "Motion",
    "Placing",
    "export",
    "holds_bodies",
    "load_amass",
    "load_result",
    "read_bodies",
    "save",
    "save_amass",
    "save_glb",
    "save_model",
    "save_obj",
    "save_params",
    "save_picture",
    "save_ply",
    "write_atomically",
    "write_json",
]
