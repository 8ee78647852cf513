"""Draw scenes of fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from bodyfit.errors import OptionError
from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.field_set import FieldSet, load_fields
from bodyfit.fields.compositional.network import SceneBatch
from bodyfit.fields.compositional.samples import PackedSamples, gather
from bodyfit.fields.compositional.scene import FieldScene, cast_object

__all__ = ["FieldDrawing", "draw_fields", "scene_batch"]

_MOST_PX = 1024


@dataclass(frozen=True, eq=False)
class FieldDrawing:
    """A picture, and maps of the feature image that it was made from."""

    picture: UInt8[np.ndarray, "S S 3"]
    """RGB."""
    alpha: Float[np.ndarray, "h h"]
    """How much of the background people hide."""
    shares: Float[np.ndarray, "K h h"]
    """How much of each ray sees each person."""
    depth_m: Float[np.ndarray, "h h"]
    """Mean depth of what a ray sees of people, along the optical axis, metres; infinite where alpha is below 0.5."""

    @property
    def person(self) -> Int[np.ndarray, "h h"]:
        """Who is seen most; -1 where people hide less than half of the background."""
        if not len(self.shares):
            return np.full(self.alpha.shape, -1, np.int64)
        return np.where(self.alpha >= 0.5, self.shares.argmax(0), -1)


def scene_batch(scene: FieldScene, fields: FieldSet) -> tuple[SceneBatch, float]:
    """What networks are fed to draw a scene, and the length of a step, metres. Raises `OptionError`."""
    network, size = fields.network, scene.camera.size
    if size % network.config.upsampling or not 16 <= size <= _MOST_PX:
        raise OptionError(f"size must be a multiple of {network.config.upsampling} in 16 to {_MOST_PX}, got {size}")
    side = size // network.config.upsampling
    atlas = surface_atlas(network.config.anchors, network.config.coarse)
    reach = network.reach_m.cpu().numpy()
    parts = [(cast_object(one, scene.camera, atlas, side).within(reach), 0) for one in scene.objects]
    if not parts:
        parts = [(PackedSamples.empty(side * side), 0)]
    device = fields.appearances.device
    codes = [o.appearance for o in scene.objects] or [fields.appearances[0]]
    directions = torch.from_numpy(scene.camera.directions(side))[None]
    step = parts[0][0].step_m * (scene.objects[0].scale if scene.objects else 1.0)
    return SceneBatch(
        gather(parts, None, side).to(device),
        torch.stack(codes).to(device),
        directions.to(device),
        scene.background[None].to(device),
    ), step


@torch.no_grad()
def draw_fields(scene: FieldScene, fields: FieldSet | None = None) -> FieldDrawing:
    """Draw a scene; by the shipped fields if they are left out. Raises `OptionError`, `AssetError` and `ShapeError`."""
    fields = load_fields() if fields is None else fields
    batch, step = scene_batch(scene, fields)
    drawn = fields.network(batch)
    side = batch.directions.shape[1]
    rays, s = side * side, batch.samples
    shares = torch.zeros(len(scene.objects), rays)
    depth = torch.zeros(rays)
    if scene.objects:
        weights, ray = drawn.weights.cpu(), s.ray.cpu()
        shares.view(-1).index_add_(0, s.owner.cpu() * rays + ray, weights)
        depth.index_add_(0, ray, weights * (s.level.cpu() + 0.5) * step)
        forward = torch.as_tensor(np.asarray(scene.camera.R_cam_world[2], np.float32))
        depth *= (batch.directions.cpu() @ forward).flatten()
    alpha = drawn.alpha[0].cpu()
    depth = torch.where(alpha.flatten() >= 0.5, depth / alpha.flatten().clamp_min(0.5), torch.inf)
    picture = (255 * drawn.pictures[0].permute(1, 2, 0) + 0.5).clamp(0, 255).to(torch.uint8)
    return FieldDrawing(
        picture.cpu().numpy(),
        alpha.numpy(),
        shares.view(-1, side, side).numpy(),
        depth.view(side, side).numpy(),
    )
