"""What each benchmark counts: its pictures, joints, root and measures, as its papers report them."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PROTOCOLS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """The protocol of a benchmark. Its text is part of every report."""

    title: str
    """Name of the data set and its part."""
    needs: str
    """Files of the data set's folder, for errors."""
    pictures: str
    """Which pictures and people count."""
    joints: str
    """Set of the joints that count."""
    regressed: str | None
    """Set that counts instead where a regressor is given, over the vertices of SMPL on both sides."""
    root: str
    """What is aligned for MPJPE and PVE, of `joints` and `regressed` alike."""
    metrics: tuple[str, ...]
    """Measures of single frames and of motions, by their names in `METRICS`."""
    camera: str
    """What of the camera a fit is given."""
    world: bool = False
    """Measure in the world, by the true motion of the camera (`evaluate/world_metrics.py`)."""
    overlap: float = 0.3
    """Least intersection over union of a detected and a true box."""
    correct: str | None = None
    """Set that counts for the percentage of correct points and its curve; None for `joints`."""
    detections: bool = False
    """Count people who were not found and bodies of nobody (F1), and divide errors by it (Patel et al. 2021)."""


_INTRINSICS = "its true intrinsics"
_UNKNOWN = "nothing: focal length sqrt(w^2 + h^2), principal point at the centre"

PROTOCOLS: dict[str, Protocol] = {
    "3dpw": Protocol(
        "3DPW, test",
        "sequenceFiles/test/*.pkl and imageFiles/",
        "frames with a valid camera",
        "smpl24",
        "3dpw14",
        "pelvis",
        ("mpjpe", "pa_mpjpe", "pve", "accel"),
        _INTRINSICS,
    ),
    "emdb": Protocol(
        "EMDB 1",
        "P*/*/*_data.pkl with emdb1 true, and images/ beside each",
        "good frames",
        "emdb24",
        None,
        "mid_hip",
        ("mpjpe", "pa_mpjpe", "pve", "accel"),
        _INTRINSICS,
    ),
    "emdb2": Protocol(
        "EMDB 2",
        "P*/*/*_data.pkl with emdb2 true, and images/ beside each",
        "good frames",
        "emdb24",
        None,
        "mid_hip",
        ("pa_mpjpe", "accel"),
        f"{_INTRINSICS}; its true motion takes bodies to the world",
        world=True,
    ),
    "rich": Protocol(
        "RICH, test",
        "test/SEQUENCE/cam_NN/*.jpeg, test_body/SEQUENCE/FRAME/SUBJECT.pkl, scan_calibration/ and gender.json",
        "all people with bodies, in each camera",
        "smpl22",
        None,
        "mid_hip",
        ("mpjpe", "pa_mpjpe", "accel"),
        _INTRINSICS,
    ),
    "agora": Protocol(
        "AGORA, validation",
        "*.npz made by AGORA_EXPORT, and the pictures",
        "people with isValid, hidden to 90 % at most",
        "smpl22",
        None,
        "pelvis",
        ("mpjpe", "pa_mpjpe"),
        _UNKNOWN,
        overlap=0.1,
        detections=True,
    ),
    "h36m": Protocol(
        "Human3.6M, protocol 2",
        "h36m_valid_protocol2.npz and the pictures that it names",
        "the frontal camera (60457274)",
        "h36m14",
        "h36m14",
        "pelvis",
        ("mpjpe", "pa_mpjpe"),
        _UNKNOWN,
        overlap=0.1,
    ),
    "mpi-inf-3dhp": Protocol(
        "MPI-INF-3DHP, test",
        "mpi_inf_3dhp_valid.npz or mpi_inf_3dhp_test.npz, and the pictures that it names",
        "all pictures of the file",
        "h36m17",
        "h36m17",
        "pelvis",
        ("mpjpe", "pa_mpjpe", "pck150", "auc"),
        _UNKNOWN,
        correct="lsp14",
    ),
}
"""Protocols by the words of the command line."""
