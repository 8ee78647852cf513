"""Evaluate bodies against ground truth: metrics, joint sets, and readers of benchmarks' annotation files."""

from bodyfit.evaluate.datasets import read_3dpw, read_agora, read_annotations, read_emdb, read_h36m
from bodyfit.evaluate.joint_sets import JOINT_SETS, JointSet, joint_set, load_regressor
from bodyfit.evaluate.metrics import (
    AUC_THRESHOLDS_MM,
    Score,
    acceleration_error,
    auc,
    jitter,
    mpjpe,
    pa_mpjpe,
    pa_pve,
    pck,
    pve,
)
from bodyfit.evaluate.picture_sets import AGORA_EXPORT
from bodyfit.evaluate.report import METRICS, Report, compare
from bodyfit.evaluate.scene_sets import read_scenes
from bodyfit.evaluate.sequence import Sequence
from bodyfit.evaluate.subjects import Subject, Wanted, load_subject, points_of
from bodyfit.geometry.procrustes import Similarity, align

__all__ = [
    "AGORA_EXPORT",
    "AUC_THRESHOLDS_MM",
    "JOINT_SETS",
    "METRICS",
    "JointSet",
    "Report",
    "Score",
    "Sequence",
    "Similarity",
    "Subject",
    "Wanted",
    "acceleration_error",
    "align",
    "auc",
    "compare",
    "jitter",
    "joint_set",
    "load_regressor",
    "load_subject",
    "mpjpe",
    "pa_mpjpe",
    "pa_pve",
    "pck",
    "points_of",
    "pve",
    "read_3dpw",
    "read_agora",
    "read_annotations",
    "read_emdb",
    "read_h36m",
    "read_scenes",
]
