"""Silhouettes: outlines, contours, the residual against a differentiable renderer, fits, masks that are no use."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from pytorch3d.renderer import BlendParams, PerspectiveCameras, RasterizationSettings
from pytorch3d.renderer.blending import sigmoid_alpha_blend
from pytorch3d.structures import Meshes
from scipy.ndimage import distance_transform_edt

import bodyfit
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.errors import OptionError, ShapeError
from bodyfit.evaluate.metrics import pa_mpjpe
from bodyfit.fit.config import FitConfig, SilhouetteConfig, StageConfig
from bodyfit.fit.observations import Observations
from bodyfit.fit.residuals.silhouette import SilhouetteTerm
from bodyfit.fit.silhouette.masks import ELSEWHERE, EMPTY, EVERYWHERE, INVERTED, OTHERS, check_masks, outline_of
from bodyfit.fit.silhouette.stage import Matcher
from bodyfit.fit.variables import Variables
from bodyfit.geometry.camera import Camera, to_pytorch3d_axes
from bodyfit.keypoints import SoftMask
from bodyfit.raster.depth import depth_map
from bodyfit.raster.outline import reach_px, trace
from bodyfit.render import MeshRasterizer

SIZE, FOCAL_PX = (240, 320), 400.0
BARE = SilhouetteConfig(clothing_cm=0.0, hair_cm=0.0)
STAGE = StageConfig(pose=0.0, shape=0.0)


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def people(model):
    """Standing people of different shapes, turned about the vertical, 4 m away."""
    g = torch.Generator().manual_seed(4)
    prior = load_pose_prior(None).of_joints(model.body_joints)
    pose = torch.as_tensor(np.asarray(prior.mean), dtype=torch.float32) + 0.1 * torch.randn(4, 69, generator=g)
    half = torch.linspace(-0.8, 0.8, 4) / 2  # the half turn that puts heads up, then the yaw
    orient = math.pi * torch.stack([half.cos(), 0 * half, half.sin()], 1)
    params = model.params(betas=1.2 * torch.randn(4, 10, generator=g), body_pose=pose, global_orient=orient)
    return replace(params, transl=torch.tensor([[0.05, 0.1, 4.0]]) - model.joints(params)[:, 0])


@pytest.fixture(scope="module")
def masks(model, people):
    return np.stack([drawn(model, vertices) for vertices in model(**people).vertices.numpy()])


@pytest.fixture(scope="module")
def evidence(model, people):
    """Keypoints that err by 1.5 cm, and the heights."""
    points = model.keypoints(people, "mediapipe33")
    xy = Camera.make(4, SIZE, focal_px=FOCAL_PX).project(torch.nan_to_num(points))
    xy = xy + 1.5 * torch.randn(xy.shape, generator=torch.Generator().manual_seed(5))
    xyc = torch.cat([xy, torch.isfinite(points).all(2, keepdim=True).float()], 2)
    height = model.measure(people.betas).height
    return bodyfit.Evidence(keypoints=xyc, layout="mediapipe33", image_size=SIZE, focal_px=FOCAL_PX, height_m=height)


def drawn(model, vertices, finer: int = 1) -> np.ndarray:
    w, h = finer * SIZE[0], finer * SIZE[1]
    return depth_map(vertices, model.faces.numpy(), finer * FOCAL_PX, (w / 2, h / 2), (w, h)).faces >= 0


# Outlines of masks.


@pytest.mark.parametrize("soft", [True, False])
def test_the_outline_of_a_disc_is_a_circle(soft):
    rows, columns = np.mgrid[:200, :300] + 0.5
    inside = 60.3 - np.hypot(columns - 150.2, rows - 98.7)
    alpha = np.uint8(255 * np.clip(inside + 0.5, 0, 1)) if soft else np.uint8(255 * (inside > 0))
    found = trace(alpha, (1000, 500), (4000, 3000))
    off = found.xy_px - (1150.2, 598.7)
    radius = np.linalg.norm(off, axis=1)
    assert found.certain.all()
    np.testing.assert_allclose(radius, 60.3, atol=0.12 if soft else 0.5)  # a step of a pixel is smoothed
    assert abs(radius.mean() - 60.3) < 0.05
    assert ((found.normal * off).sum(1) / radius).min() > 0.98
    # On the average as many points as steps of 1.27 of them a pixel.
    assert len(found) / (2 * math.pi * 60.3) == pytest.approx(1.27, abs=0.03)


def test_distances_to_a_masks_edge_are_positive_inside_and_know_no_border():
    inside = np.zeros((20, 30), bool)
    inside[:, :12] = True
    np.testing.assert_allclose(reach_px(inside), np.broadcast_to(11.5 - np.arange(30), (20, 30)), atol=1e-5)
    np.testing.assert_allclose(reach_px(~inside), -reach_px(inside), atol=1e-5)
    y, x = np.mgrid[:60, :60] + 0.5
    disc = np.hypot(x - 30, y - 30) - 20
    assert np.abs(reach_px(disc < 0) + disc).max() < 0.75


def test_a_large_mask_is_reduced_and_stays_where_it_is():
    alpha = np.zeros((2000, 1200), np.uint8)
    alpha[301:1702, 401:800] = 255
    found = trace(alpha, (0, 0), (1200, 2000))
    assert found.step_px == 4
    inner = found.xy_px[(found.xy_px[:, 1] > 400) & (found.xy_px[:, 1] < 1600)]
    sides = np.where(inner[:, 0] < 600, 401, 800)
    np.testing.assert_allclose(inner[:, 0], sides, atol=0.6)


def test_edges_at_the_border_of_the_picture_or_of_others_are_not_certain():
    alpha, other = np.zeros((100, 100), np.uint8), np.zeros((100, 100), bool)
    alpha[20:100, 30:60] = 255
    other[:, 60:] = True
    found = trace(alpha, (0, 0), (100, 100), other)
    x, y = found.xy_px.T
    assert not found.certain[x > 58].any()
    assert not found.certain[y > 98].any()
    assert found.certain[(x < 55) & (y < 95)].all()
    assert not trace(np.zeros((5, 5), np.uint8), (0, 0), (5, 5)).certain.any()


# The contour and the residual.


def pairs_at(model, params, mask, config=BARE, *, hands=False, finer=1):
    matcher = Matcher(model, Variables.of(model), replace(config, points=1500))
    if hands:
        matcher.of_body[:] = True
    size = (finer * SIZE[0], finer * SIZE[1])
    camera = Camera.make(len(params.betas), size, focal_px=finer * FOCAL_PX)
    nothing = torch.full((len(params.betas), 1, 3), 0.0)
    checked = check_masks(mask, camera, None, nothing)
    return matcher(Variables.of(model).pack({**params}), checked, None)


def quadratic(model, params, pairs):
    n = len(params.betas)
    seen = Observations(torch.zeros(n, 1, 2), torch.zeros(n, 1), torch.ones(n), contour=pairs)
    layout = Variables.of(model)
    return SilhouetteTerm(model, layout).at(layout.unpack(layout.pack({**params})), seen, STAGE)


def test_the_contour_of_a_body_lies_on_its_own_mask(model, people, masks):
    """All its pairs are within a pixel, a centimetre here, and the whole edge has a contour beside it."""
    pairs, explained = pairs_at(model, people, masks, hands=True)
    points = model(**people).vertices.gather(1, pairs.vertices[..., None].expand(-1, -1, 3))
    r = ((points[..., :2] / points[..., 2:] - pairs.target) * pairs.normal).sum(2) * pairs.scale_cm
    r = r[pairs.weight > 0]
    assert r.abs().quantile(0.95) < 1.0
    assert r.abs().median() < 0.3
    assert r.mean().abs() < 0.15
    assert min(explained) > 0.97


def boundary_gradient(model, params, vertices_of_mask, *, finer: int = 3) -> torch.Tensor:
    """The gradient of the integral of a mask's signed distance over the body's silhouette, by PyTorch3D's soft one.

    This is the boundary loss of Kervadec et al. (2019): its derivative integrates distance times normal velocity over
    the contour, and is half that of the integral of the squared distance. Faces must be larger than the blur, or a soft
    silhouette is fatter than the hard one: hence the finer picture.
    """
    w, h = finer * SIZE[0], finer * SIZE[1]
    centre, focal = (w / 2, h / 2), finer * FOCAL_PX
    mask = drawn(model, vertices_of_mask, finer)
    distance = distance_transform_edt(~mask) - distance_transform_edt(mask)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    cameras = PerspectiveCameras(focal_length=focal, principal_point=(centre,), in_ndc=False, image_size=((h, w),))
    sigma = 2e-7
    blur = math.log(1 / 1e-2 - 1) * sigma
    settings = RasterizationSettings(image_size=(h, w), blur_radius=blur, faces_per_pixel=30)
    meshes = Meshes(to_pytorch3d_axes(model(**leaves).vertices), model.faces[None])
    fragments = MeshRasterizer(cameras, settings)(meshes)
    colors = torch.ones(*fragments.pix_to_face.shape, 3)
    alpha = sigmoid_alpha_blend(colors, fragments, BlendParams(sigma=sigma))[..., 3]
    (alpha[0] * torch.as_tensor(distance, dtype=torch.float32)).sum().backward()
    return Variables.of(model).pack({name: value.grad for name, value in leaves.items()})[0]


@pytest.mark.parametrize("person", [0, 1])
def test_it_descends_as_a_differentiable_renderer_does(model, people, person):
    """Cosines of shape, of pose and of all variables, in the solver's units, at random states about the truth."""
    g = torch.Generator().manual_seed(10 + person)
    one = people.select([person])
    state = replace(
        one,
        betas=one.betas + 0.6 * torch.randn(1, 10, generator=g),
        body_pose=one.body_pose + 0.036 * torch.randn(1, 69, generator=g),
        global_orient=one.global_orient + 0.018 * torch.randn(1, 3, generator=g),
        transl=one.transl + 0.009 * torch.randn(1, 3, generator=g),
    )
    vertices = model(**one).vertices[0].numpy()
    with torch.no_grad():
        mask = drawn(model, vertices, 3)[None]
        pairs, _ = pairs_at(model, state, mask, replace(BARE, sigma_cm=1e4), hands=True, finer=3)
        mine = quadratic(model, state, pairs).gradient[0]
    want, layout = boundary_gradient(model, state, vertices), Variables.of(model)
    pose = slice(layout["global_orient"].start, layout["body_pose"].stop)
    for columns in (layout["betas"], pose, slice(None)):
        assert torch.nn.functional.cosine_similarity(mine[columns], want[columns], dim=0) > 0.95


def test_outside_always_costs_and_inside_only_beyond_the_slack(model, people, masks):
    """A wider mask is clothes up to the slack; a narrower one is never."""
    matcher = Matcher(model, Variables.of(model), SilhouetteConfig(clothing_cm=3.0, hair_cm=3.0))
    camera = Camera.make(1, SIZE, focal_px=FOCAL_PX)
    one, layout = people.select([0]), Variables.of(model)
    x = layout.pack({**one})
    costs = {}
    for by_px in (-4, 0, 2, 6):
        distance = distance_transform_edt(~masks[0]) - distance_transform_edt(masks[0])
        checked = check_masks((distance <= by_px)[None], camera, None, torch.zeros(1, 1, 3))
        pairs, _ = matcher(x, checked, None)
        found = quadratic(model, one, pairs)
        costs[by_px] = float(found.cost), float(found.gradient.abs().max())
    # A pixel is a centimetre: 2 within the slack of 3.
    assert costs[-4][0] > 100
    assert costs[6][0] > 50
    assert costs[2][0] < 0.02 * costs[6][0]
    assert costs[2][1] < 0.05 * costs[6][1]
    assert costs[0][0] < 0.02 * costs[-4][0]


def test_the_resolution_of_the_picture_does_not_matter(model, people, masks):
    state = replace(people.select([0]), betas=people.betas[:1] + 1.5)
    vertices = model(**people.select([0])).vertices[0].numpy()
    found = []
    for finer in (3, 8):
        pairs, _ = pairs_at(model, state, drawn(model, vertices, finer)[None], finer=finer)
        pixel_cm = 400 / FOCAL_PX / finer
        found.append(quadratic(model, state, pairs).gradient[0] * (1 + pixel_cm**2))  # a pixel's noise taken out
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99
    assert found[0].norm() == pytest.approx(float(found[1].norm()), rel=0.1)


# Fits.


def girths(model, betas) -> torch.Tensor:
    found = model.measure(betas)
    return torch.stack([found.chest, found.waist, found.hip], 1)


@pytest.fixture(scope="module")
def without(model, evidence):
    return bodyfit.fit(evidence, model=model)


@pytest.fixture(scope="module")
def within(model, evidence, masks):
    return bodyfit.fit(replace(evidence, masks=masks), model=model, config=FitConfig(silhouette=BARE))


def test_silhouettes_bring_girths_nearer_and_poses_no_farther(model, people, without, within):
    before, after = (
        (girths(model, r.params.betas) - girths(model, people.betas)).abs().mean() for r in (without, within)
    )
    assert after < 0.65 * before
    truth = model.joints(people)
    poses = [pa_mpjpe(r.joints, truth).mean for r in (without, within)]
    assert poses[1] < poses[0]
    assert within.mask_notes == (None,) * 4
    assert within.trace is not None
    assert without.trace is not None
    rounds = BARE.rounds * (BARE.lm.max_iterations + 1)
    assert within.trace.cost.shape[1] == without.trace.cost.shape[1] + rounds


def test_a_mask_does_nothing_to_people_without_one(model, evidence, masks, without):
    some = [None, masks[1], None, None]
    result = bodyfit.fit(replace(evidence, masks=some), model=model, config=FitConfig(silhouette=BARE))
    alone = [0, 2, 3]
    torch.testing.assert_close(result.params.betas[alone], without.params.betas[alone], rtol=0, atol=1e-5)
    torch.testing.assert_close(result.joints[alone], without.joints[alone], rtol=0, atol=1e-5)
    assert (result.params.betas[1] != without.params.betas[1]).any()


def test_rows_and_forms_of_masks_are_alike(model, evidence, masks, within):
    """Arrays, crops and outlines say the same, in any order of the people."""
    order = [2, 0]
    crops = []
    for i in order:
        rows, columns = masks[i].any(1).nonzero()[0], masks[i].any(0).nonzero()[0]
        part = masks[i][rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        crops.append(SoftMask(np.uint8(255 * part), (int(columns[0]), int(rows[0]))))
    outline, _ = outline_of(np.uint8(255 * masks[0]), SIZE)
    config = FitConfig(silhouette=BARE)
    whole = replace(evidence, masks=torch.as_tensor(masks).float())[order]
    for given in (whole, replace(whole, masks=crops), replace(whole, masks=[crops[0], outline])):
        result = bodyfit.fit(given, model=model, config=config)
        torch.testing.assert_close(result.params.betas, within.params.betas[order], rtol=0, atol=0.1)
    assert len(bodyfit.Evidence.cat([whole, whole]).masks) == 4


# Masks that are no use.


def test_masks_that_are_no_use_are_told_and_left_out(model, evidence, masks, without):
    shifted = np.roll(masks[3], 150, 1)
    empty = np.zeros_like(masks[0])
    given = [empty, ~masks[1], np.ones_like(masks[2]), shifted]
    result = bodyfit.fit(replace(evidence, masks=given), model=model, config=FitConfig(silhouette=BARE))
    assert result.mask_notes == (EMPTY, INVERTED, EVERYWHERE, ELSEWHERE)
    torch.testing.assert_close(result.params.betas, without.params.betas, rtol=0, atol=1e-5)


def test_a_mask_of_two_people_is_told(model, evidence, masks, without):
    both = masks[0] | np.roll(masks[0], 45, 1) | np.roll(masks[0], 90, 1)
    result = bodyfit.fit(replace(evidence[:1], masks=[both]), model=model, config=FitConfig(silhouette=BARE))
    assert result.mask_notes == (OTHERS,)
    torch.testing.assert_close(result.params.betas, without.params.betas[:1], rtol=0, atol=1e-5)
    # Another person apart from this one is cut off by the keypoints.
    other = np.roll(masks[0], 110, 1)
    assert not (masks[0] & other).any()
    apart = bodyfit.fit(replace(evidence[:1], masks=[masks[0] | other]), model=model, config=FitConfig(silhouette=BARE))
    assert apart.mask_notes == (None,)


def test_masks_of_a_wrong_form_are_refused(evidence, masks):
    for given, error, word in (
        (masks[:, :100], ShapeError, "as large as the picture"),
        (masks[:2], ShapeError, "one entry a person"),
        (3.0 * masks, OptionError, "between 0 and 1"),
    ):
        with pytest.raises(error, match=word):
            bodyfit.fit(replace(evidence, masks=given))


def test_pixels_that_are_unknown_pull_nothing(model, evidence, masks, within):
    """Somebody stands before the left half of each person: what is left of the mask says little there, and no wrong."""
    hidden = masks.astype(np.float32)
    hidden[:, 60:150, :118] = np.nan
    result = bodyfit.fit(replace(evidence, masks=hidden), model=model, config=FitConfig(silhouette=BARE))
    assert result.mask_notes == (None,) * 4
    assert (result.joints - within.joints).norm(dim=2).median() < 0.03


# Clips.


def test_a_clip_has_one_shape_by_the_silhouettes_of_all_frames(model, people):
    """A turning person, seen from more sides than one: girths are nearer than by keypoints, and poses are too."""
    count, g = 8, torch.Generator().manual_seed(6)
    half = torch.linspace(-0.8, 0.8, count)
    orient = math.pi * torch.stack([half.cos(), 0 * half, half.sin()], 1)
    one = people.select([3] * count)
    pose = one.body_pose + 0.05 * torch.sin(torch.linspace(0, 3, count)[:, None] + 6 * torch.rand(1, 69, generator=g))
    bodies = replace(one, body_pose=pose, global_orient=orient, transl=torch.zeros(count, 3))
    bodies = replace(bodies, transl=torch.tensor([[0.05, 0.1, 4.0]]) - model.joints(bodies)[:, 0])
    masks = [drawn(model, vertices) for vertices in model(**bodies).vertices.numpy()]
    points = model.keypoints(bodies, "mediapipe33")
    xy = Camera.make(count, SIZE, focal_px=FOCAL_PX).project(torch.nan_to_num(points))
    xy = xy + 1.5 * torch.randn(xy.shape, generator=g)
    xyc = torch.cat([xy, torch.isfinite(points).all(2, keepdim=True).float()], 2)
    height = model.measure(one.betas).height
    more = {"layout": "mediapipe33", "image_size": SIZE, "focal_px": FOCAL_PX, "height_m": height}
    without = bodyfit.fit_sequence(bodyfit.Evidence(keypoints=xyc, **more), fps=10.0, model=model)
    masks[2], masks[5] = None, np.zeros_like(masks[5])  # one is missing, one is empty
    evidence = bodyfit.Evidence(keypoints=xyc, masks=masks, **more)
    settings = {"config": FitConfig(silhouette=BARE), "sequence": bodyfit.SequenceConfig(silhouette=1.0)}
    within = bodyfit.fit_sequence(evidence, fps=10.0, model=model, **settings)
    assert within.mask_notes == (None,) * 5 + (EMPTY, None, None)
    assert (within.params.betas == within.params.betas[:1]).all()
    truth = girths(model, one.betas[:1])
    before, after = ((girths(model, r.params.betas[:1]) - truth).abs().mean() for r in (without, within))
    assert after < 0.65 * before
    poses = [pa_mpjpe(r.joints, model.joints(bodies)).mean for r in (without, within)]
    assert poses[1] < poses[0]
