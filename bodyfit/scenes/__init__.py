"""Scenes of dressed people with labels: drawn at random, one like the other from the same seed."""

from __future__ import annotations

from bodyfit.scenes.config import LABELS, MORE_LABELS, SceneConfig
from bodyfit.scenes.dataset import SceneDataset
from bodyfit.scenes.draw import SceneDrawing, draw_scene
from bodyfit.scenes.sample import Scene, sample_scene
from bodyfit.scenes.write import write_scenes

__all__ = [
    "LABELS",
    "MORE_LABELS",
    "Scene",
    "SceneConfig",
    "SceneDataset",
    "SceneDrawing",
    "draw_scene",
    "sample_scene",
    "write_scenes",
]
