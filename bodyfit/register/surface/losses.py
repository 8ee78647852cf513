"""The losses of surfaces (Gkioxari et al. 2019, section 3.3), differentiable, on points or meshes of any origin.

`deform` minimises their point-to-plane and per-face forms by Gauss-Newton steps; these are the plain ones, to measure a
surface by and to descend on with any optimiser. Batches are lists of one mesh; all are in metres.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bodyfit.errors import OptionError

__all__ = ["chamfer_loss", "edge_loss", "laplacian_loss", "normal_loss"]


def chamfer_loss(
    predicted: Float[Tensor, "P 3"], target: Float[Tensor, "Q 3"], *, trim: float = 0.0
) -> Float[Tensor, ""]:
    """Compute the symmetric chamfer distance: mean squared distance to the nearest point, both ways, added.

    `trim`: share of the largest distances, in [0, 1), that is left out of each mean. Nearest points are found without
    a gradient; it flows through the distances. Raises `OptionError`.
    """
    if not 0 <= trim < 1:
        raise OptionError(f"trim must lie in [0, 1), got {trim}")
    to_target, to_predicted = _nearest(predicted, target), _nearest(target, predicted)
    one = (predicted - target[to_target]).square().sum(1)
    other = (target - predicted[to_predicted]).square().sum(1)
    return _trimmed_mean(one, trim) + _trimmed_mean(other, trim)


def normal_loss(
    predicted: Float[Tensor, "P 3"],
    target: Float[Tensor, "Q 3"],
    predicted_normals: Float[Tensor, "P 3"],
    target_normals: Float[Tensor, "Q 3"],
) -> Float[Tensor, ""]:
    """Compute minus the mean absolute cosine between unit normals of nearest points, both ways: -2 at best."""
    to_target, to_predicted = _nearest(predicted, target), _nearest(target, predicted)
    one = (predicted_normals * target_normals[to_target]).sum(1).abs().mean()
    other = (target_normals * predicted_normals[to_predicted]).sum(1).abs().mean()
    return -one - other


def edge_loss(vertices: Float[Tensor, "V 3"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, ""]:
    """Compute the mean squared length of the edges, which keeps faces from degenerating."""
    return (vertices[edges[:, 0]] - vertices[edges[:, 1]]).square().sum(1).mean()


def laplacian_loss(vertices: Float[Tensor, "V 3"], edges: Int[Tensor, "E 2"]) -> Float[Tensor, ""]:
    """Compute the mean distance of vertices from the mean of their neighbours."""
    ends = torch.cat([edges, edges.flip(1)])
    total = torch.zeros_like(vertices).index_add(0, ends[:, 0], vertices[ends[:, 1]])
    count = torch.bincount(ends[:, 0], minlength=len(vertices)).clamp(min=1).to(vertices)
    return (total / count[:, None] - vertices).norm(dim=1).mean()


def _nearest(a: Float[Tensor, "P 3"], b: Float[Tensor, "Q 3"]) -> Int[Tensor, " P"]:
    """Find the nearest point in b to each of a."""
    from scipy.spatial import KDTree

    found = KDTree(b.detach().cpu().numpy()).query(a.detach().cpu().numpy())[1]
    return torch.as_tensor(found, dtype=torch.int64, device=a.device)


def _trimmed_mean(squares: Float[Tensor, " N"], trim: float) -> Float[Tensor, ""]:
    count = len(squares) - int(trim * len(squares))
    return (squares.sort()[0][:count] if trim > 0 else squares).mean()
