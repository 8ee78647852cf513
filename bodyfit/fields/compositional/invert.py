"""Find the codes of a person and a background from one picture, the body being known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, UInt8

from bodyfit.errors import ShapeError
from bodyfit.fields.compositional.draw import scene_batch
from bodyfit.fields.compositional.field_set import FieldSet, load_fields
from bodyfit.fields.compositional.losses import picture_loss
from bodyfit.fields.compositional.scene import FieldScene

__all__ = ["fit_codes"]

_RATE = 0.05
_TOWARDS_MEAN = 1e-3


def fit_codes(
    picture: UInt8[np.ndarray, "H W 3"],
    alpha: Float[np.ndarray, "h w"],
    scene: FieldScene,
    fields: FieldSet | None = None,
    *,
    steps: int = 120,
) -> FieldScene:
    """Fit the appearance of everyone in a scene and its background to a picture; returns the scene with these codes.

    alpha: how much of the background people hide, 0 to 1. scene: bodies and camera as they are in the picture; its
    codes are not used. Codes begin at the means of the training's and are pulled towards them. Raises `ShapeError`.
    """
    fields = load_fields() if fields is None else fields
    size = scene.camera.size
    if picture.shape != (size, size, 3) or alpha.shape != (size, size):
        raise ShapeError(f"picture and alpha must be {size} pixels a side as the camera's, got {picture.shape}")
    batch, _ = scene_batch(scene, fields)
    device = fields.appearances.device
    truth = torch.from_numpy(picture).to(device).permute(2, 0, 1)[None].float() / 255
    mask = torch.from_numpy(np.asarray(alpha, np.float32)).to(device)[None]
    mean = fields.appearances.mean(0)
    spread = fields.appearances.std(0, correction=0).clamp_min(1e-3)
    codes = mean.repeat(len(scene.objects), 1).requires_grad_()
    behind = fields.backgrounds.mean(0, keepdim=True).requires_grad_()
    optimizer = torch.optim.Adam([codes, behind], lr=_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        drawn = fields.network(replace(batch, codes=codes, backgrounds=behind))
        away = ((codes - mean) / spread).square().mean()
        loss = picture_loss(drawn, truth, mask) + _TOWARDS_MEAN * away
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
    objects = tuple(replace(o, appearance=c) for o, c in zip(scene.objects, codes.detach(), strict=True))
    return replace(scene, objects=objects, background=behind.detach()[0])
