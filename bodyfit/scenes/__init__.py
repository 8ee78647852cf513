"""Scenes of dressed people with labels: drawn at random, one like the other from the same seed."""

from __future__ import annotations

from bodyfit.scenes.clips.sample import ClipConfig, sample_clip
from bodyfit.scenes.clips.write import write_clips
from bodyfit.scenes.config import LABELS, MORE_LABELS, SceneConfig
from bodyfit.scenes.dataset import SceneDataset
from bodyfit.scenes.draw import SceneDrawing, draw_scene
from bodyfit.scenes.sample import Scene, sample_scene
from bodyfit.scenes.store.ray_engine import scene_ray_engine
from bodyfit.scenes.write import write_scenes

__all__ = [
    "LABELS",
    "MORE_LABELS",
    "ClipConfig",
    "Scene",
    "SceneConfig",
    "SceneDataset",
    "SceneDrawing",
    "draw_scene",
    "sample_clip",
    "sample_scene",
    "scene_ray_engine",
    "write_clips",
    "write_scenes",
]
