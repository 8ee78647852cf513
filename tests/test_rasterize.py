"""The CPU rasteriser gives PyTorch3D's fragments and gradients."""

from __future__ import annotations

import time

import pytest
import torch
from pytorch3d.renderer import FoVPerspectiveCameras, PerspectiveCameras, RasterizationSettings
from pytorch3d.renderer import MeshRasterizer as Reference
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere

from bodyfit.errors import OptionError
from bodyfit.render import MeshRasterizer

# Both compute in float32, in the same order but for fused operations: a few units in the last place.
ATOL = 2e-6


def _cameras(size: tuple[int, int], focal: float = 90.0) -> PerspectiveCameras:
    height, width = size
    return PerspectiveCameras(
        in_ndc=False,
        image_size=((height, width),),
        focal_length=((focal, focal),),
        principal_point=((width / 2 + 3.3, height / 2 - 1.7),),
    )


def _spheres() -> Meshes:
    far = ico_sphere(3).scale_verts(0.5).offset_verts(torch.tensor([0.1, 0.2, 3.0]))
    return join_meshes_as_batch([far, ico_sphere(2).offset_verts(torch.tensor([0.1, -0.5, 2.0]))])


def _soup(seed: int = 0, count: int = 150) -> Meshes:
    """Triangles through each other, some of them across or behind the camera plane."""
    torch.manual_seed(seed)
    low, extent = torch.tensor([-1.0, -1.0, -0.5]), torch.tensor([2.0, 2.0, 3.0])
    corners = low + extent * torch.rand(3 * count, 3)
    return Meshes([corners], [torch.arange(3 * count).view(-1, 3)])


def _assert_equal(meshes: Meshes, cameras, settings: RasterizationSettings) -> None:
    ours, theirs = MeshRasterizer(cameras, settings)(meshes), Reference(cameras, settings)(meshes)
    assert (theirs.pix_to_face >= 0).any()
    assert torch.equal(ours.pix_to_face, theirs.pix_to_face)
    for name in ("zbuf", "bary_coords"):
        assert getattr(ours, name).shape == getattr(theirs, name).shape
        torch.testing.assert_close(getattr(ours, name), getattr(theirs, name), atol=ATOL, rtol=ATOL)
    # A squared distance is a difference of coordinates that may be hundreds where faces pass close by the camera.
    torch.testing.assert_close(ours.dists, theirs.dists, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("size", [(64, 64), (40, 71), (71, 40), (33, 3), (1, 50)])
def test_agrees_with_pytorch3d_on_batches_and_any_shape(size):
    _assert_equal(_spheres(), _cameras(size), RasterizationSettings(image_size=size))


@pytest.mark.parametrize(
    "options",
    [
        {"cull_backfaces": True},
        {"perspective_correct": False},
        {"z_clip_value": 1.5},
        {"cull_to_frustum": True},
        {"clip_barycentric_coords": True},
    ],
)
def test_agrees_with_pytorch3d_in_every_setting(options):
    _assert_equal(_spheres(), _cameras((50, 60)), RasterizationSettings(image_size=(50, 60), **options))


@pytest.mark.parametrize("near", [None, 0.2])
def test_agrees_with_pytorch3d_on_faces_across_the_camera(near):
    _assert_equal(_soup(), _cameras((50, 60)), RasterizationSettings(image_size=(50, 60), z_clip_value=near))


def test_agrees_with_pytorch3d_under_a_camera_with_a_near_plane():
    meshes = ico_sphere(2).offset_verts(torch.tensor([0.0, 0.0, 1.2]))
    _assert_equal(meshes, FoVPerspectiveCameras(znear=1.0), RasterizationSettings(image_size=40))


def test_threads_do_not_change_the_picture():
    before = torch.get_num_threads()
    settings = RasterizationSettings(image_size=(120, 90))
    pictures = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            pictures.append(MeshRasterizer(_cameras((120, 90)), settings)(_spheres()))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(pictures[0].pix_to_face, pictures[1].pix_to_face)
    assert torch.equal(pictures[0].bary_coords, pictures[1].bary_coords)


def test_gradients_are_pytorch3d_s():
    size = (30, 40)
    grads = []
    for kind in (MeshRasterizer, Reference):
        mesh = ico_sphere(1).offset_verts(torch.tensor([0.1, 0.05, 3.0]))
        verts = mesh.verts_packed().clone().requires_grad_()
        settings = RasterizationSettings(image_size=size, z_clip_value=0.5)
        f = kind(_cameras(size), settings)(Meshes([verts], [mesh.faces_packed()]))
        weight = torch.linspace(0, 1, f.bary_coords.numel()).view_as(f.bary_coords)
        (f.zbuf.sum() + (weight * f.bary_coords).sum() + f.dists.sum()).backward()
        grads.append(verts.grad)
    assert grads[0].abs().max() > 0.1
    torch.testing.assert_close(grads[0], grads[1], atol=1e-4, rtol=1e-4)  # float32 sums over a thousand pixels


def test_depth_is_barycentric_and_nearest():
    f = MeshRasterizer(_cameras((50, 60)), RasterizationSettings(image_size=(50, 60)))(_spheres())
    covered = f.pix_to_face >= 0
    corners = _spheres().verts_packed()[_spheres().faces_packed()][f.pix_to_face[covered]]
    torch.testing.assert_close((f.bary_coords[covered] * corners[..., 2]).sum(-1), f.zbuf[covered], atol=1e-5, rtol=0)
    torch.testing.assert_close(f.bary_coords[covered].sum(-1), torch.ones(int(covered.sum())), atol=1e-5, rtol=0)
    assert bool((f.dists[covered] <= 0).all())
    assert bool((f.zbuf[~covered] == -1).all())


def test_nan_and_empty_meshes_draw_nothing():
    verts = torch.full((3, 3), torch.nan)
    meshes = Meshes([verts, torch.zeros(0, 3)], [torch.tensor([[0, 1, 2]]), torch.zeros(0, 3, dtype=torch.int64)])
    f = MeshRasterizer(_cameras((20, 20)), RasterizationSettings(image_size=20))(meshes)
    assert bool((f.pix_to_face == -1).all())


@pytest.mark.parametrize("options", [{"faces_per_pixel": 2}, {"blur_radius": 1e-4}])
def test_what_the_cpu_cannot_draw_is_refused(options):
    with pytest.raises(OptionError, match="faces_per_pixel"):
        MeshRasterizer(_cameras((20, 20)), RasterizationSettings(image_size=20, **options))(_spheres())


def test_the_kernel_compiles_where_no_cache_can_be_written(monkeypatch):
    from bodyfit.body import compiled

    compiler = compiled.numba.njit

    def without_a_place(*args, cache: bool = False, **kwargs):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiler(*args, **kwargs)

    monkeypatch.setattr(compiled.numba, "njit", without_a_place)
    assert compiled.jit(lambda x: x + 1)(2) == 3


def test_a_body_takes_milliseconds():
    # 20,000 faces over most of 512x512: about 15 ms on an idle core. The bound leaves room for a busy machine and still
    # lies far below PyTorch3D's 13 s.
    mesh = ico_sphere(5).offset_verts(torch.tensor([0.0, 0.0, 2.5]))
    rasterizer = MeshRasterizer(_cameras((512, 512), 512.0), RasterizationSettings(image_size=512))
    times = []
    for _ in range(4):
        start = time.perf_counter()
        rasterizer(mesh)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5
