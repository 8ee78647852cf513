"""Soft splatting of points: the same picture and gradients as PyTorch3D's and as plain tensors; slabs; bad input."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError
from pytorch3d.renderer import PerspectiveCameras, PointsRasterizationSettings, PointsRasterizer
from pytorch3d.renderer.compositing import alpha_composite, norm_weighted_sum
from pytorch3d.structures import Pointclouds

from bodyfit.errors import OptionError, ShapeError
from bodyfit.raster.splat import splat, splat_by_tensors

SIZE = (32, 32)
RADIUS = 1.6


def cloud(count=400, *, dtype=torch.float64, seed=0):
    """Points over the picture and a little beyond it, most pixels under several of them."""
    draw = torch.Generator().manual_seed(seed)
    xy = torch.rand(count, 2, generator=draw, dtype=dtype) * 36 - 2
    z = 2 + torch.rand(count, 1, generator=draw, dtype=dtype)
    return torch.cat([xy, z], 1), torch.rand(count, 3, generator=draw, dtype=dtype)


def by_pytorch3d(points, features, layers=6, compositor=alpha_composite):
    """PyTorch3D's rasteriser of points and its compositor, x right and y down as here."""
    side = SIZE[0]
    ndc = points.clone()
    ndc[:, :2] = 1 - 2 * points[:, :2] / side  # +x left, +y up
    settings = PointsRasterizationSettings(image_size=side, radius=2 * RADIUS / side, points_per_pixel=layers)
    rasteriser = PointsRasterizer(cameras=PerspectiveCameras(in_ndc=True), raster_settings=settings)
    world = torch.cat([ndc[:, :2] * ndc[:, 2:], ndc[:, 2:]], 1)
    fragments = rasteriser(Pointclouds([world.float()], [features.float()]))
    weights = 1 - fragments.dists.permute(0, 3, 1, 2) / (2 * RADIUS / side) ** 2
    index = fragments.idx.long().permute(0, 3, 1, 2)
    packed = torch.cat([features.float(), torch.ones(len(features), 1)], 1).T
    picture = compositor(index, weights, packed)[0].permute(1, 2, 0)
    return picture[..., :3], picture[..., 3]


def test_the_picture_is_pytorch3ds():
    points, features = (t.float() for t in cloud())
    at, values = points.clone().requires_grad_(), features.clone().requires_grad_()
    picture, alpha = splat(at, values, SIZE, radius_px=RADIUS)
    at3d, values3d = points.clone().requires_grad_(), features.clone().requires_grad_()
    truth, cover = by_pytorch3d(at3d, values3d)
    assert float(alpha.detach().max()) > 0.9
    torch.testing.assert_close(picture, truth, atol=2e-4, rtol=0)  # distances go through float32 in NDC there
    torch.testing.assert_close(alpha, cover, atol=2e-4, rtol=0)
    weight = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(1))
    (picture * weight).sum().backward()
    (truth * weight).sum().backward()
    torch.testing.assert_close(at.grad[:, :2], at3d.grad[:, :2], atol=5e-3, rtol=5e-3)
    torch.testing.assert_close(values.grad, values3d.grad, atol=1e-3, rtol=1e-3)


def test_averages_are_pytorch3ds():
    """Its compositor of normed weights, times the opacity."""
    points, features = (t.float() for t in cloud())
    picture, alpha = splat(points, features, SIZE, radius_px=RADIUS, power=1)
    truth, cover = by_pytorch3d(points, features, compositor=norm_weighted_sum)
    torch.testing.assert_close(picture, truth / cover.clamp(min=1e-9)[..., None] * alpha[..., None], atol=2e-4, rtol=0)


@pytest.mark.parametrize("power", [None, 1, 6])
@pytest.mark.parametrize("slab", [float("inf"), 0.2])
def test_loops_and_tensors_agree(slab, power):
    points, features = cloud()
    results = []
    for draw in (splat, splat_by_tensors):
        at, values = points.clone().requires_grad_(), features.clone().requires_grad_()
        picture, alpha = draw(at, values, SIZE, radius_px=RADIUS, slab_m=slab, layers=4, power=power)
        ((picture * torch.linspace(-1, 1, 3, dtype=torch.float64)).sum() + alpha.square().sum()).backward()
        results.append((picture.detach(), alpha.detach(), at.grad, values.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("power", [None, 3])
def test_gradients_are_central_differences(power):
    points, features = cloud(40, seed=3)
    points[:, :2] = 4 + points[:, :2] / 8  # many discs on few pixels

    def value(xy, values):
        at = torch.cat([xy, points[:, 2:]], 1)
        picture, alpha = splat(at, values, (12, 12), radius_px=RADIUS, slab_m=0.5, power=power)
        return picture.square().sum() + (alpha * torch.arange(12)).sum()

    assert torch.autograd.gradcheck(
        value, (points[:, :2].clone().requires_grad_(), features.clone().requires_grad_()), eps=1e-7, atol=1e-4
    )


def test_a_point_alone_is_a_disc():
    points = torch.tensor([[5.0, 4.0, 2.0]])
    picture, alpha = splat(points, torch.tensor([[0.5]]), (10, 9), radius_px=2.0)
    rows, columns = torch.meshgrid(torch.arange(9) + 0.5, torch.arange(10) + 0.5, indexing="ij")
    disc = (1 - ((columns - 5).square() + (rows - 4).square()) / 4).clamp(min=0)
    torch.testing.assert_close(alpha, disc)
    torch.testing.assert_close(picture[..., 0], 0.5 * disc)


def test_the_nearer_point_hides_the_farther_one():
    points = torch.tensor([[1.5, 1.5, 3.0], [1.5, 1.5, 2.0], [1.5, 1.5, 2.5]])
    colours = torch.eye(3)
    picture, alpha = splat(points, colours, (3, 3))
    torch.testing.assert_close(picture[1, 1], colours[1])  # opaque in its middle
    assert alpha[1, 1] == 1
    beside = picture[1, 2]  # where discs are half opaque, all three mix, the nearest most
    assert beside[1] > beside[2] > beside[0] > 0
    thin, _ = splat(points, colours, (3, 3), slab_m=0.6)
    assert thin[1, 2, 0] == 0
    assert thin[1, 2, 2] > 0
    only, _ = splat(points, colours, (3, 3), layers=1)
    assert only[1, 2, 2] == 0


def test_points_that_cannot_be_drawn_are_left_out():
    bad = torch.tensor([[1.0, 1, -1], [1, 1, 0], [float("nan"), 1, 1], [1, float("inf"), 1], [1, 1, float("nan")]])
    for draw in (splat, splat_by_tensors):
        picture, alpha = draw(bad, torch.ones(5, 2), (4, 4))
        assert float(picture.abs().max()) == 0
        assert float(alpha.max()) == 0
        picture, alpha = draw(torch.zeros(0, 3), torch.zeros(0, 2), (4, 4))
        assert picture.shape == (4, 4, 2)


def test_errors_name_the_argument():
    points, features = torch.ones(3, 3), torch.ones(3, 2)  # the tests' own check of shapes comes first
    with pytest.raises((ShapeError, TypeCheckError), match="features"):
        splat(points, features[:2], SIZE)
    with pytest.raises((ShapeError, TypeCheckError), match="points"):
        splat(points[:, :2], features, SIZE)
    for name, value in (("radius_px", 0.1), ("radius_px", float("nan")), ("slab_m", -1.0), ("layers", 0), ("power", 0)):
        with pytest.raises(OptionError, match=name):
            splat(points, features, SIZE, **{name: value})
    with pytest.raises(OptionError, match="size_px"):
        splat(points, features, (0, 3))
