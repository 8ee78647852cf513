"""The CPU rasteriser gives PyTorch3D's fragments and gradients."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pytest
import torch
from pytorch3d.renderer import (
    BlendParams,
    FoVOrthographicCameras,
    FoVPerspectiveCameras,
    HardPhongShader,
    MeshRenderer,
    OrthographicCameras,
    PerspectiveCameras,
    PointLights,
    RasterizationSettings,
    SoftPhongShader,
    SoftSilhouetteShader,
    TexturesVertex,
)
from pytorch3d.renderer import MeshRasterizer as Reference
from pytorch3d.renderer.fisheyecameras import FishEyeCameras
from pytorch3d.structures import Meshes, join_meshes_as_batch
from pytorch3d.utils import ico_sphere
from torch import Tensor

from bodyfit.errors import OptionError
from bodyfit.raster.zbuffer import pixel_centres
from bodyfit.render import MeshRasterizer

SIZE = (20, 27)
SCREEN: dict[str, Any] = {"in_ndc": False, "image_size": (SIZE,), "principal_point": ((15.1, 8.7),)}
CAMERAS = {
    "perspective": PerspectiveCameras(focal_length=1.3),
    "perspective in pixels": PerspectiveCameras(focal_length=((24.0, 22.0),), **SCREEN),
    "perspective with a near plane": FoVPerspectiveCameras(znear=0.6, fov=70.0),
    "orthographic": OrthographicCameras(focal_length=0.8),
    "orthographic in pixels": OrthographicCameras(focal_length=((11.0, 10.0),), **SCREEN),
    "orthographic by bounds": FoVOrthographicCameras(max_x=1.2, min_x=-1.0),
}
"""One at the origin for each of PyTorch3D's kinds."""
OPTIONS: list[dict[str, Any]] = [
    dict(
        zip(
            (
                "faces_per_pixel",
                "blur_radius",
                "perspective_correct",
                "clip_barycentric_coords",
                "cull_backfaces",
                "z_clip_value",
                "cull_to_frustum",
            ),
            values,
            strict=True,
        )
    )
    for values in product((1, 3), (0.0, 1e-2), (True, False), (True, False), (True, False), (None, 0.7), (True, False))
]


def _soup(seed: int, count: int = 60, nearest: float = -0.5) -> Meshes:
    """Triangles large and small through each other, some of them across or behind the camera plane."""
    g = torch.Generator().manual_seed(seed)
    low, extent = torch.tensor([-1.2, -1.0, nearest]), torch.tensor([2.4, 2.0, 2.5 - nearest])
    centres = low + extent * torch.rand(count, 1, 3, generator=g)
    sizes = torch.where(torch.arange(count) < count // 3, 0.6, 0.1)[:, None, None]
    corners = centres + sizes * (torch.rand(count, 3, 3, generator=g) - 0.5)
    return Meshes([corners.view(-1, 3)], [torch.arange(3 * count).view(-1, 3)])


def _packed(meshes: Any) -> tuple[Tensor, Tensor]:  # PyTorch3D annotates its tensors as possibly None
    return meshes.verts_packed(), meshes.faces_packed()


def _spheres() -> Meshes:
    far = ico_sphere(2).scale_verts(0.5).offset_verts(torch.tensor([0.1, 0.2, 3.0]))
    return join_meshes_as_batch([far, ico_sphere(2).offset_verts(torch.tensor([0.1, -0.5, 2.0]))])


def _assert_alike(ours: Any, theirs: Any) -> None:
    """The bounds of the promise; on Linux both are equal to the last bit, elsewhere a compiler may fuse a sum."""
    same = ours.pix_to_face == theirs.pix_to_face
    assert ours.pix_to_face.shape == theirs.pix_to_face.shape
    assert same.float().mean() >= 0.999
    for name in ("zbuf", "bary_coords", "dists"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert a.shape == b.shape
        # Relative where large: unclipped weights beside a face that is seen edge-on are in the millions.
        torch.testing.assert_close(a[same], b[same], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("camera", CAMERAS.values(), ids=CAMERAS.keys())
def test_fragments_are_pytorch3d_s_in_every_combination_of_settings(camera):
    covered = 0.0
    for seed, options in enumerate(OPTIONS):
        meshes = join_meshes_as_batch([_soup(seed), _soup(seed + 1, 30)])
        settings = RasterizationSettings(image_size=SIZE, **options)
        theirs = Reference(camera, settings)(meshes)
        covered += float((theirs.pix_to_face >= 0).float().mean()) / len(OPTIONS)
        _assert_alike(MeshRasterizer(camera, settings)(meshes), theirs)
    assert covered > 0.05


@pytest.mark.parametrize("size", [(64, 64), (40, 71), (71, 40), (33, 3), (3, 50), 17])
@pytest.mark.parametrize("blur", [0.0, 3e-3])
def test_fragments_are_pytorch3d_s_at_any_shape(size, blur):
    camera = PerspectiveCameras(focal_length=1.5)
    settings = RasterizationSettings(image_size=size, blur_radius=blur, faces_per_pixel=2)
    theirs = Reference(camera, settings)(_spheres())
    assert (theirs.pix_to_face >= 0).any()
    _assert_alike(MeshRasterizer(camera, settings)(_spheres()), theirs)


@pytest.mark.parametrize("k", [1, 2, 12])
def test_of_faces_at_the_same_depth_the_first_comes_first(k):
    """Twice the same sphere: every pixel sees two faces at each depth."""
    sphere = ico_sphere(1).offset_verts(torch.tensor([0.0, 0.0, 3.0]))
    verts, faces = _packed(sphere)
    meshes = Meshes([verts], [torch.cat([faces.flip(0), faces])])
    for blur in (0.0, 1e-2):
        settings = RasterizationSettings(image_size=24, faces_per_pixel=k, blur_radius=blur)
        ours = MeshRasterizer(PerspectiveCameras(), settings)(meshes)
        _assert_alike(ours, Reference(PerspectiveCameras(), settings)(meshes))


def test_settings_and_cameras_of_the_call_and_a_camera_without_a_matrix():
    meshes = join_meshes_as_batch([_soup(3, nearest=0.5), _soup(4, nearest=0.5)])
    settings = RasterizationSettings(image_size=SIZE, faces_per_pixel=2)
    cameras = PerspectiveCameras(focal_length=torch.tensor([[1.0], [1.6]]), T=torch.tensor([[0.1, 0, 0], [0, 0, 1]]))
    call: dict[str, Any] = {"cameras": cameras, "raster_settings": settings}
    _assert_alike(MeshRasterizer()(meshes, **call), Reference()(meshes, **call))
    fisheye = FishEyeCameras(focal_length=torch.tensor([[0.7]]))
    _assert_alike(MeshRasterizer(fisheye, settings)(meshes[0]), Reference(fisheye, settings)(meshes[0]))


class Formulas:
    """PyTorch3D's weights, depths and distances in float64, differentiable by autograd."""

    def __init__(self, corners: Tensor, pix_to_face: Tensor, *, perspective: bool, clip: bool) -> None:
        _, height, width, k = pix_to_face.shape
        self.kept = pix_to_face >= 0
        x, y = (torch.from_numpy(pixel_centres(*s)).double() for s in ((width, height), (height, width)))
        p = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None, :, :, None].expand(-1, -1, -1, k, -1)
        p = p.expand(len(pix_to_face), -1, -1, -1, -1)[self.kept]
        xyz = corners[pix_to_face[self.kept]]
        self.total = torch.ones(len(p))
        edges = [self._edge(p, xyz[:, i], xyz[:, j]) for i, j in ((1, 2), (2, 0), (0, 1))]
        weights = torch.stack(edges, 1) / (self._edge(xyz[:, 2, :2], xyz[:, 0], xyz[:, 1]) + 1e-8)[:, None]
        if perspective:
            z = xyz[..., 2]
            weights = weights * torch.stack([z[:, 1] * z[:, 2], z[:, 0] * z[:, 2], z[:, 0] * z[:, 1]], 1)
            self.total = weights.sum(1)
            weights = weights / self.total.clamp_min(1e-8)[:, None]
        squared = torch.stack([self._squared(p, xyz[:, i, :2], xyz[:, j, :2]) for i, j in ((0, 1), (0, 2), (1, 2))])
        self.dists = squared.amin(0) * torch.where((weights > 0).all(1), -1, 1)
        if clip:
            weights = weights.clamp_min(0) / weights.clamp_min(0).sum(1, keepdim=True).clamp_min(1e-5)
        self.bary, self.zbuf = weights, (weights * xyz[..., 2]).sum(1)

    @staticmethod
    def _edge(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return (p[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]) - (p[:, 1] - a[:, 1]) * (b[:, 0] - a[:, 0])

    @staticmethod
    def _squared(p: Tensor, a: Tensor, b: Tensor) -> Tensor:
        along = (((p - a) * (b - a)).sum(1) / ((b - a) ** 2).sum(1)).clamp(0, 1)
        return ((a + along[:, None] * (b - a) - p) ** 2).sum(1)


@pytest.mark.parametrize(
    ("k", "blur", "perspective", "clip"), product((1, 3), (0.0, 1e-2), (True, False), (True, False))
)
def test_gradients_are_the_formulas_and_pytorch3d_s(k, blur, perspective, clip):
    verts, faces = _packed(_soup(5, nearest=0.6))
    settings = RasterizationSettings(
        image_size=SIZE,
        blur_radius=blur,
        faces_per_pixel=k,
        perspective_correct=perspective,
        clip_barycentric_coords=clip,
    )
    camera = OrthographicCameras()  # NDC is the world, so that depths of a perspective can be tried without one
    exact = verts.double().requires_grad_()
    with torch.no_grad():
        pix = Reference(camera, settings)(Meshes([verts], [faces])).pix_to_face
    formulas = Formulas(exact[faces], pix, perspective=perspective, clip=clip)
    # A pixel beyond the horizon of a blurred face: PyTorch3D's float32 gradient is rounding, 1e8 times magnified.
    sound = torch.zeros(pix.shape)
    sound[formulas.kept] = (formulas.total > 0.05).float().detach()
    assert sound.sum() > 0.5 * formulas.kept.sum()
    g = torch.Generator().manual_seed(6)
    on_z, on_bary, on_dists = (torch.rand(*pix.shape, n, generator=g) * sound[..., None] for n in (1, 3, 1))
    grads = []
    for kind in (MeshRasterizer, Reference):
        v = verts.clone().requires_grad_()
        f = kind(camera, settings)(Meshes([v], [faces]))
        loss = (on_z[..., 0] * f.zbuf).sum() + (on_bary * f.bary_coords).sum() + 30 * (on_dists[..., 0] * f.dists).sum()
        grads.append(torch.autograd.grad(loss, v)[0].double())
    loss = (on_z[..., 0][formulas.kept] * formulas.zbuf).sum() + (on_bary[formulas.kept] * formulas.bary).sum()
    truth = torch.autograd.grad(loss + 30 * (on_dists[..., 0][formulas.kept] * formulas.dists).sum(), exact)[0]
    assert (grads[0] - truth).norm() < 1e-6 * truth.norm()  # ours sums in float64 and rounds once
    assert (grads[0] - grads[1]).norm() < 1e-3 * grads[1].norm()


@pytest.mark.parametrize("options", [{"z_clip_value": 1.3}, {"z_clip_value": 1.3, "faces_per_pixel": 4}])
def test_gradients_pass_through_clipped_faces(options):
    grads = []
    for kind in (MeshRasterizer, Reference):
        verts, faces = _packed(ico_sphere(1).offset_verts(torch.tensor([0.1, 0.05, 2.0])))
        verts.requires_grad_()
        f = kind(PerspectiveCameras(), RasterizationSettings(image_size=SIZE, **options))(Meshes([verts], [faces]))
        weight = torch.linspace(0, 1, f.bary_coords.numel()).view_as(f.bary_coords)
        (f.zbuf.sum() + (weight * f.bary_coords).sum() + f.dists.sum()).backward()
        grads.append(verts.grad)
    assert grads[1].norm() > 1
    assert (grads[0] - grads[1]).norm() < 1e-3 * grads[1].norm()


@pytest.mark.parametrize("kind", [SoftSilhouetteShader, SoftPhongShader, HardPhongShader])
def test_pictures_of_pytorch3d_s_shaders(kind):
    blend = BlendParams(sigma=1e-4, gamma=1e-4)
    soft = kind is not HardPhongShader
    camera = FoVPerspectiveCameras()
    settings = RasterizationSettings(
        image_size=24,
        blur_radius=math.log(1 / 1e-4 - 1) * blend.sigma if soft else 0.0,
        faces_per_pixel=8 if soft else 1,
    )
    lit = (
        {} if kind is SoftSilhouetteShader else {"cameras": camera, "lights": PointLights(location=((0.0, 1.0, -1.0),))}
    )
    pictures, grads = [], []
    for rasterizer in (MeshRasterizer, Reference):
        verts, faces = _packed(ico_sphere(2).offset_verts(torch.tensor([0.1, 0.05, 3.0])))
        verts.requires_grad_()
        mesh = Meshes([verts], [faces], TexturesVertex([verts.detach().sigmoid()]))
        picture = MeshRenderer(rasterizer(camera, settings), kind(blend_params=blend, **lit))(mesh)
        (picture[..., 3] * torch.linspace(0, 1, 24) + picture[..., 0]).sum().backward()
        pictures.append(picture.detach())
        grads.append(verts.grad)
    assert pictures[1].std() > 0.1
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-4, rtol=0)
    if kind is SoftSilhouetteShader:
        assert grads[1].norm() > 0.1
        assert (grads[0] - grads[1]).norm() < 1e-3 * grads[1].norm()
    elif soft:  # of some vertices PyTorch3D's is rounding, as said above
        error = (grads[0] - grads[1]).norm(dim=1) / grads[1].norm(dim=1).clamp_min(1e-3)
        assert (error < 1e-3).float().mean() > 0.9


def test_threads_do_not_change_the_picture():
    before = torch.get_num_threads()
    settings = RasterizationSettings(image_size=(90, 70), faces_per_pixel=3, blur_radius=1e-3)
    fragments, grads = [], []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            verts, faces = _packed(_spheres())
            verts.requires_grad_()
            f = MeshRasterizer(PerspectiveCameras(), settings)(Meshes([verts, 1.1 * verts], [faces, faces]))
            fragments.append(f)
            grads.append(torch.autograd.grad(f.zbuf.sum() + f.dists.sum(), verts)[0])
    finally:
        torch.set_num_threads(before)
    for name in ("pix_to_face", "zbuf", "bary_coords", "dists"):
        assert torch.equal(getattr(fragments[0], name), getattr(fragments[1], name))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-6, rtol=1e-6)  # sums in another order


def test_bands_are_the_rows_of_the_picture():
    settings = RasterizationSettings(image_size=SIZE, faces_per_pixel=3, blur_radius=1e-3)
    rasterizer = MeshRasterizer(PerspectiveCameras(), settings)
    verts, faces = _packed(_soup(8))
    verts.requires_grad_()
    mesh = Meshes([verts], [faces])
    whole: Any = rasterizer(mesh)
    bands: list[tuple[int, Any]] = list(rasterizer.bands(mesh, rows=7))
    assert [top for top, _ in bands] == [0, 7, 14]
    for name in ("pix_to_face", "zbuf", "bary_coords", "dists"):
        assert torch.equal(getattr(whole, name), torch.cat([getattr(band, name) for _, band in bands], 1))
    whole_grad = torch.autograd.grad(whole.dists.sum(), verts, retain_graph=True)[0]
    grad = torch.autograd.grad(torch.cat([band.dists for _, band in bands], 1).sum(), verts)[0]
    torch.testing.assert_close(grad, whole_grad, atol=1e-6, rtol=1e-5)


def test_depth_is_barycentric_and_nearest():
    f = MeshRasterizer(PerspectiveCameras(), RasterizationSettings(image_size=(50, 60)))(_spheres())
    covered = f.pix_to_face >= 0
    verts, faces = _packed(_spheres())
    corners = verts[faces][f.pix_to_face[covered]]
    torch.testing.assert_close((f.bary_coords[covered] * corners[..., 2]).sum(-1), f.zbuf[covered], atol=1e-5, rtol=0)
    torch.testing.assert_close(f.bary_coords[covered].sum(-1), torch.ones(int(covered.sum())), atol=1e-5, rtol=0)
    assert bool((f.dists[covered] <= 0).all())
    assert bool((f.zbuf[~covered] == -1).all())


NAN, INF = math.nan, math.inf


@pytest.mark.parametrize("options", [{}, {"faces_per_pixel": 3, "blur_radius": 1e-2}, {"z_clip_value": 0.5}])
@pytest.mark.parametrize(
    "corners",
    [
        [],
        [[NAN, 0, 1], [1, 0, 1], [0, 1, 1]],
        [[0, 0, NAN], [1, 0, 1], [0, 1, 1]],
        [[INF, 0, 1], [1, 0, 1], [0, 1, 1]],
        [[0, 0, INF], [1, 0, 1], [0, 1, 1]],
        [[0, 0, -1], [1, 0, -1], [0, 1, -2]],
        [[0, 0, 1], [0, 0, 1], [0, 0, 1]],
        [[50, 0, 1], [51, 0, 1], [50, 1, 1]],
    ],
    ids=["nothing", "nan", "nan depth", "infinite", "infinite depth", "behind", "a point", "outside"],
)
def test_what_cannot_be_seen_draws_nothing_and_harms_nothing_beside_it(corners, options):
    """In a batch with a sphere, before and after it."""
    verts = torch.tensor(corners, dtype=torch.float32).view(-1, 3)
    unseen = Meshes([verts], [torch.arange(len(verts)).view(-1, 3)])
    sphere = ico_sphere(1).offset_verts(torch.tensor([0.0, 0.0, 3.0]))
    rasterizer = MeshRasterizer(PerspectiveCameras(), RasterizationSettings(image_size=24, **options))
    f = rasterizer(join_meshes_as_batch([unseen, sphere, unseen]))
    assert bool((f.pix_to_face[[0, 2]] == -1).all())
    assert bool((f.dists[[0, 2]] == -1).all())
    alone = rasterizer(sphere)
    assert torch.equal(f.zbuf[1], alone.zbuf[0])
    assert torch.equal(f.dists[1], alone.dists[0])
    assert torch.equal(rasterizer(unseen).zbuf, torch.full_like(alone.zbuf, -1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faces_per_pixel": 0}, "faces_per_pixel must be at least 1, got 0"),
        ({"blur_radius": -1e-4}, "blur_radius must be 0 or more"),
        ({"blur_radius": NAN}, "blur_radius must be 0 or more"),
        ({"image_size": 0}, "image_size must be at least 1 by 1, got 0 by 0"),
    ],
)
def test_settings_that_cannot_be_meant(options, message):
    settings = RasterizationSettings(**{"image_size": 20, **options})
    with pytest.raises(OptionError, match=message):
        MeshRasterizer(PerspectiveCameras(), settings)(_spheres())


def test_a_picture_too_large_for_memory_is_refused_and_drawn_in_bands():
    rasterizer = MeshRasterizer(PerspectiveCameras(focal_length=8), RasterizationSettings(image_size=20_000))
    with pytest.raises(OptionError, match=r"10\.4 GiB.*bands"):
        rasterizer(_spheres()[1])
    top, band = next(rasterizer.bands(_spheres()[1], rows=16))
    assert top == 0
    assert band.pix_to_face.shape == (1, 16, 20_000, 1)
    assert (band.pix_to_face >= 0).any()


def test_bands_of_no_rows():
    with pytest.raises(OptionError, match="rows must be at least 1, got 0"):
        next(MeshRasterizer(PerspectiveCameras()).bands(_spheres(), rows=0))


def test_the_kernel_compiles_where_no_cache_can_be_written(monkeypatch):
    from bodyfit.runtime import compiled

    compiler = compiled.numba.njit

    def without_a_place(*args, cache: bool = False, **kwargs):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return compiler(*args, **kwargs)

    monkeypatch.setattr(compiled.numba, "njit", without_a_place)
    assert compiled.jit(lambda x: x + 1)(2) == 3
