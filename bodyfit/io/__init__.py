"""Results to files and back."""

from bodyfit.io.amass import load_amass, save_amass
from bodyfit.io.clips.reader import VideoReader
from bodyfit.io.clips.writer import VideoWriter
from bodyfit.io.export.arkit import ARKIT_NAMES, arkit_weights
from bodyfit.io.export.export_frame import Placing
from bodyfit.io.export.formats import EXPORTS, export
from bodyfit.io.export.mesh import save_glb, save_obj, save_ply
from bodyfit.io.keypoints import ClipKeypoints, KeypointFiles, load_keypoints, save_keypoints
from bodyfit.io.motions import MOTION_FORMATS, Motion, load_motion, load_motions
from bodyfit.io.picture import save_array, save_depth, save_gif, save_labels, save_picture
from bodyfit.io.points3d import BodyPoints, Points3D, is_points3d, load_points3d
from bodyfit.io.results.bodies import Bodies, read_bodies, read_people
from bodyfit.io.results.model_file import save_model
from bodyfit.io.results.params import load_result, save, save_params
from bodyfit.io.results.summary import known_entries, write_json, write_summary
from bodyfit.io.results.track import load_track, save_track
from bodyfit.runtime.atomic import write_atomically

__all__ = [
    "ARKIT_NAMES",
    "EXPORTS",
    "MOTION_FORMATS",
    "Bodies",
    "BodyPoints",
    "ClipKeypoints",
    "KeypointFiles",
    "Motion",
    "Placing",
    "Points3D",
    "VideoReader",
    "VideoWriter",
    "arkit_weights",
    "export",
    "is_points3d",
    "known_entries",
    "load_amass",
    "load_keypoints",
    "load_motion",
    "load_motions",
    "load_points3d",
    "load_result",
    "load_track",
    "read_bodies",
    "read_people",
    "save",
    "save_amass",
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
    "save_ply",
    "save_track",
    "write_atomically",
    "write_json",
    "write_summary",
]
