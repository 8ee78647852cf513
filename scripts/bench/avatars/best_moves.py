"""The nearest that moves of the network's anchors bring a body to a dressed person: what clothed surfaces could be."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

import bodyfit
from bodyfit.clothed.inputs import SIDE, body_view, region_about
from bodyfit.clothed.mesh import surface_mesh
from scripts.train.clothed.batches import Batch, Shard
from scripts.train.clothed.losses import SurfaceLoss
from scripts.train.clothed.truth import outer_points, solid_mesh

if TYPE_CHECKING:
    from scripts.bench.avatars.surface import Case

__all__ = ["best_surface"]

_STEPS, _RATE_M, _CELL_M = 120, 0.01, 0.012


@lru_cache(maxsize=1)
def best_surface(case: Case) -> Float[np.ndarray, "V 3"]:
    """Descend from the body to the true surface by moves of the anchors."""
    mesh, model = surface_mesh(), bodyfit.load_model()
    with torch.no_grad():
        body = model(**case.params).vertices[0].double().numpy()
    medium = body[mesh.vertices]
    roi = region_about(medium, case.view.lens)
    assert roi is not None
    view = body_view(medium, mesh, case.view.lens, roi)
    points, normals = outer_points(*solid_mesh(case.person.dressed), _CELL_M)
    true = points @ case.view.R.T + case.view.t
    shard = Shard(
        params=case.person.params,
        R=np.eye(3, dtype=np.float32)[None, None],
        t=np.zeros((1, 1, 3), np.float32),
        lens=view.lens[None, None],
        points=true[None].astype(np.float32),
        normals=(normals @ case.view.R.T)[None].astype(np.float32),
        pictures=np.zeros((1, 1, SIDE, SIDE, 4), np.uint8),
        fits=None,
        trees={},
    )
    one = {"image": torch.zeros(1, 9, SIDE, SIDE), "R": torch.eye(3)[None], "t": torch.zeros(1, 3)}
    arrays = {"points": view.points, "features": view.features, "lens": view.lens}
    arrays |= {"medium": medium, "normals": view.normals}
    tensors = {name: torch.from_numpy(array.astype(np.float32))[None] for name, array in arrays.items()}
    one |= {"scale": torch.ones(1), "weight": torch.ones(1), "covered": torch.zeros(1, mesh.anchors)}
    batch = Batch(**one, **tensors, truth=[(shard, 0)])
    loss_of, move = SurfaceLoss(mesh, torch.device("cpu")), torch.zeros(1, mesh.anchors, 4, requires_grad=True)
    optimiser = torch.optim.Adam([move], lr=_RATE_M)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for step in range(_STEPS):
        optimiser.zero_grad()
        torch.stack(list(loss_of.terms(move, batch, np.random.default_rng(step)).values())).sum().backward()
        optimiser.step()
        schedule.step()
    moves = move.detach()[0].double().numpy()
    return body + mesh.spread(moves[:, :1] * view.normals[: mesh.anchors] + moves[:, 1:])
