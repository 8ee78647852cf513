"""Results to files and back."""

from bodyfit.io.amass import load_amass, save_amass
from bodyfit.io.atomic import write_atomically
from bodyfit.io.bodies import Bodies, read_bodies, read_people
from bodyfit.io.formats import EXPORTS, export
from bodyfit.io.keypoints import ClipKeypoints, KeypointFiles, load_keypoints, save_keypoints
from bodyfit.io.mesh import save_glb, save_obj, save_ply
from bodyfit.io.model_file import save_model
from bodyfit.io.motions import MOTION_FORMATS, Motion, load_motion, load_motions
from bodyfit.io.params import load_result, save, save_params
from bodyfit.io.picture import save_array, save_depth, save_gif, save_labels, save_picture
from bodyfit.io.placing import Placing
from bodyfit.io.points3d import BodyPoints, Points3D, is_points3d, load_points3d
from bodyfit.io.summary import known_entries, write_json, write_summary
from bodyfit.io.track import load_track, save_track
from bodyfit.io.video import VideoReader
from bodyfit.io.video_writer import VideoWriter

__all__ = [
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
