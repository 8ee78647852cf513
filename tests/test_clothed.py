"""Clothed surfaces: the coarse meshes, what the network is shown, its moves and files, the truth and the training."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from gltf_reader import Gltf

import bodyfit
from bodyfit.cli.main import main
from bodyfit.cli.support.fit_one import _OURS
from bodyfit.clothed.drape import Drape
from bodyfit.clothed.inputs import SIDE, body_view, region_about, sampled
from bodyfit.clothed.mesh import surface_mesh
from bodyfit.clothed.outline import match_outline
from bodyfit.clothed.texture import surface_texture
from bodyfit.detect.networks.crops import from_picture
from bodyfit.errors import OptionError, ShapeError
from bodyfit.geometry.camera import turned_orient
from bodyfit.geometry.mesh_tree import face_normals, vertex_normals
from bodyfit.images.similarity import mask_iou
from bodyfit.keypoints import SoftMask
from bodyfit.raster.depth import depth_map
from scripts.train import clothed_surface as clothed_surface_script
from scripts.train.clothed.batches import Sampler, read_shards
from scripts.train.clothed.errors import FitErrors, errors_of, global_rotations
from scripts.train.clothed.fits import fits_path, on_canvas
from scripts.train.clothed.losses import SurfaceLoss
from scripts.train.clothed.mesh import inner_radii
from scripts.train.clothed.people import HELD_OUT, outfits, worn_pieces, write_shard
from scripts.train.clothed.truth import outer_points
from scripts.train.conditional.motion import Motion

SIZE = (260, 320)
FOCAL = 420.0


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model()


@pytest.fixture(scope="module")
def standing(model):
    """A body with arms and legs apart before a camera at the origin."""
    pose = torch.zeros(1, 69)
    names = model.skeleton.names
    for name, value in (("left_hip", 0.2), ("right_hip", -0.2), ("left_shoulder", -0.8), ("right_shoulder", 0.8)):
        pose[0, 3 * (names.index(name) - 1) + 2] = value
    orient = torch.tensor([[np.pi, 0.0, 0.0]])
    return model.params(global_orient=orient, body_pose=pose, transl=torch.tensor([[0.0, -0.25, 3.0]]))


@pytest.fixture(scope="module")
def camera():
    return bodyfit.Camera.make(1, SIZE, focal_px=FOCAL)


def vertices_of(model, params):
    with torch.no_grad():
        return model(**params).vertices[0].double().numpy()


def silhouette(points, faces):
    return depth_map(points, faces, FOCAL, (SIZE[0] / 2, SIZE[1] / 2), SIZE).faces >= 0


def thick(model, params, out_m):
    """The silhouette of a body in a suit."""
    body, faces = vertices_of(model, params), model.faces.numpy()
    return silhouette(body + out_m * vertex_normals(body, faces), faces)


@pytest.fixture(scope="module")
def picture():
    return np.full((SIZE[1], SIZE[0], 3), 120, np.uint8)


# ---------------------------------------------------------------- meshes and inputs


def test_what_is_at_the_anchors_is_interpolated_smoothly(model):
    mesh = surface_mesh()
    rows = mesh.vertices[: mesh.anchors]
    np.testing.assert_allclose(mesh.near_weights.sum(1), 1)
    at_anchors = np.random.default_rng(0).normal(size=(mesh.anchors, 2))
    np.testing.assert_allclose(mesh.spread(at_anchors)[rows], at_anchors, atol=1e-6)
    rest = model.v_template.double().numpy()
    # Coordinates are nearly linear over the few centimetres between anchors.
    assert np.abs(mesh.spread(rest[rows]) - rest)[mesh.outer].mean() < 0.01


def test_the_medium_mesh_is_the_body(model):
    mesh = surface_mesh()
    rest = model.v_template.double().numpy()
    coarse = trimesh.Trimesh(rest[mesh.vertices], mesh.faces, process=False)
    fine = trimesh.Trimesh(rest, model.faces.numpy(), process=False)
    assert coarse.area == pytest.approx(fine.area, rel=0.15)  # the fine one has the mouth
    whole = vertex_normals(rest, model.faces.numpy())[mesh.vertices]
    assert ((mesh.normals(rest[mesh.vertices]) * whole).sum(1) > 0.7).mean() > 0.95
    assert len(np.unique(np.sort(mesh.edges, 1), axis=0)) == len(mesh.edges)


def test_the_view_projects_as_the_camera_does_and_tells_what_is_visible(model, standing):
    mesh, lens = surface_mesh(), np.array([FOCAL, SIZE[0] / 2, SIZE[1] / 2])
    points = vertices_of(model, standing)[mesh.vertices]
    roi = region_about(points, lens)
    assert roi is not None
    view = body_view(points, mesh, lens, roi)
    xy = points[: mesh.anchors, :2] / points[: mesh.anchors, 2:] * FOCAL + lens[1:]
    linear = from_picture(roi, SIDE)
    in_region = (xy @ linear[:, :2].T + linear[:, 2]) / (SIDE / 2) - 1
    ours = view.points[:, :2] / view.points[:, 2:] * view.lens[0] + view.lens[1:]
    np.testing.assert_allclose(ours, in_region, atol=1e-4)
    assert np.abs(ours).max() < 1  # all of the body is in its region
    ahead = (view.features[:, :3] * view.points).sum(1) / np.linalg.norm(view.points, axis=1)
    visible = view.features[:, 3] > 0.5
    assert visible[ahead < -0.6].mean() > 0.97
    assert visible[ahead > 0.6].mean() < 0.2  # thin parts lie within the tolerance
    assert region_about(points * [1, 1, -1], lens) is None


def test_a_region_beyond_the_picture_is_empty_there(standing, model):
    lens = np.array([FOCAL, SIZE[0] / 2, SIZE[1] / 2])
    points = vertices_of(model, standing) + np.array([0.8, 0, 0])
    roi = region_about(points, lens)
    assert roi is not None
    inside = sampled(np.full(SIZE[::-1], 255, np.uint8), roi)
    assert inside[:, 0].min() == 0 or inside[:, -1].max() == 0
    assert inside[:, 4].max() == 255


# ---------------------------------------------------------------- surfaces


@pytest.fixture(scope="module")
def surface(model, standing, camera, picture):
    return bodyfit.clothed_surface(standing, picture, thick(model, standing, 0.03), camera, model)


def test_a_surface_fills_the_mask_and_moves_with_the_body(model, standing, surface):
    mask, faces = thick(model, standing, 0.03), model.faces.numpy()

    def iou(points):
        own = silhouette(points, faces)
        return (own & mask).sum() / (own | mask).sum()

    naked = vertices_of(model, standing)
    assert iou(surface.vertices_m[0]) > iou(naked) + 0.03
    normals = vertex_normals(naked, faces)
    out = ((surface.vertices_m[0] - naked) * normals).sum(1)[surface_mesh().outer]
    assert 0.005 < out.mean() < 0.05
    own = surface.person_model(0)
    np.testing.assert_allclose(vertices_of(own, standing), surface.vertices_m[0], atol=1e-4)
    bent = model.params(**dict(standing) | {"body_pose": standing.body_pose * 0.5})
    away = vertices_of(own, bent) - vertices_of(model, bent)
    size = np.linalg.norm(surface.vertices_m[0] - naked, axis=1)
    np.testing.assert_allclose(np.linalg.norm(away, axis=1), size, atol=0.02)  # blended rotations shorten them


def test_wider_masks_give_wider_surfaces(model, standing, camera, picture):
    widths = []
    for out_m in (0.0, 0.01, 0.02):
        found = bodyfit.clothed_surface(standing, picture, thick(model, standing, out_m), camera, model)
        widths.append(silhouette(found.vertices_m[0], model.faces.numpy()).sum())
    assert widths[0] < widths[1] < widths[2]


def test_pictures_of_other_sizes_and_masks_in_boxes_give_the_same(model, standing, camera, picture, surface):
    mask = thick(model, standing, 0.03)
    y, x = np.nonzero(mask)
    box = (slice(y.min(), y.max() + 1), slice(x.min(), x.max() + 1))
    soft = SoftMask(np.where(mask, np.uint8(255), np.uint8(0))[box], (int(x.min()), int(y.min())))
    again = bodyfit.clothed_surface(standing, picture, soft, camera, model)
    np.testing.assert_array_equal(again.vertices_m, surface.vertices_m)
    double = bodyfit.Camera.make(1, (2 * SIZE[0], 2 * SIZE[1]), focal_px=2 * FOCAL)
    large = bodyfit.clothed_surface(standing, picture.repeat(2, 0).repeat(2, 1), mask.repeat(2, 0).repeat(2, 1), double)
    away = np.linalg.norm(large.vertices_m - surface.vertices_m, axis=2)
    assert away.mean() < 0.003


def test_people_without_masks_keep_their_bodies(model, standing, camera, picture, surface):
    two = model.params(**{name: value.expand(2, -1) for name, value in standing.items()})
    mask = thick(model, standing, 0.03)
    found = bodyfit.clothed_surface(two, picture, [None, mask], camera, model)
    assert found.masked == found.found == (False, True)
    assert found.notes == ("there is no mask of the person", None)
    assert len(found) == 2
    np.testing.assert_allclose(found.vertices_m[0], vertices_of(model, standing), atol=1e-6)
    np.testing.assert_allclose(found.vertices_m[1], surface.vertices_m[0], atol=1e-6)
    empty = bodyfit.clothed_surface(standing, picture, np.zeros_like(mask), camera, model)
    assert empty.masked == (False,)
    nobody = bodyfit.clothed_surface(model.params(transl=torch.full((1, 3), torch.nan)), picture, mask, camera, model)
    assert nobody.masked == (False,)


def test_surfaces_that_the_mask_speaks_against_are_left_out(model, standing, camera, picture, monkeypatch):
    class Swelling:
        def run(self, names, inputs):
            moves = np.zeros((1, surface_mesh().anchors, 5), np.float32)
            moves[..., 0] = 0.1
            return [moves]

    monkeypatch.setattr("bodyfit.clothed.person._network", Swelling)
    naked = vertices_of(model, standing)
    for out_m, moved in ((0.0, False), (0.1, True)):
        found = bodyfit.clothed_surface(standing, picture, thick(model, standing, out_m), camera, model)
        assert found.masked == (True,)
        assert found.found == (moved,)
        assert (np.abs(found.vertices_m[0] - naked).max() > 0.05) == moved
        assert (found.notes[0] is None) == moved
        assert moved or "agrees less with the mask than the body does" in str(found.notes[0])


def test_surfaces_that_agree_badly_with_the_mask_are_poor(model, standing, camera, picture):
    everything = np.ones((SIZE[1], SIZE[0]), bool)
    found = bodyfit.clothed_surface(standing, picture, everything, camera, model)
    assert found.found == (True,)
    assert str(found.notes[0]).startswith("poor: it agrees with the mask to an IoU of 0.")


def test_draping_smooths_details_where_a_surface_is_covered_and_nowhere_else():
    ball = trimesh.creation.icosphere(4, 0.3)  # edges of about two centimetres
    bumps = 0.004 * np.sign(np.sin(70 * ball.vertices).prod(1))[:, None] * ball.vertex_normals
    covered = (ball.vertices[:, 0] > 0).astype(np.float64)
    drape = Drape(np.asarray(ball.faces), len(ball.vertices))
    smooth = drape(ball.vertices + bumps, covered)

    def rough(points, some):
        return np.abs(np.linalg.norm(points[some], axis=1) - 0.3).mean()

    inside, bare = ball.vertices[:, 0] > 0.1, ball.vertices[:, 0] < -0.1
    assert rough(smooth, inside) < 0.4 * rough(ball.vertices + bumps, inside)
    np.testing.assert_array_equal(smooth[bare], (ball.vertices + bumps)[bare])
    plain = drape(np.array(ball.vertices), np.ones(len(covered)))
    assert np.abs(np.linalg.norm(plain, axis=1) - 0.3).max() < 0.003  # a ball stays one, of the same size


@pytest.fixture(scope="module")
def outlined(model, standing):
    """Matches the standing body to a mask."""
    body, mesh, lens = vertices_of(model, standing), surface_mesh(), np.array([FOCAL, SIZE[0] / 2, SIZE[1] / 2])
    roi = region_about(body[mesh.vertices], lens)
    return lambda mask: match_outline(body, model.faces.numpy(), 255 * mask.astype(np.uint8), lens, roi, mesh)


def test_what_outlines_do_not_move_is_thin_or_the_face(model):
    ball = trimesh.creation.icosphere(3, 0.3)
    radii = inner_radii(np.array(ball.vertices), np.array(ball.vertex_normals), np.arange(20))
    np.testing.assert_allclose(radii, 0.3, rtol=2e-3)
    mesh = surface_mesh()
    bones = np.array(model.skeleton.names)[model.weights.argmax(1).numpy()[mesh.vertices[: mesh.anchors]]]
    share = {name: mesh.fixed[bones == name].mean() for name in np.unique(bones)}
    assert share["left_hand"] == share["right_foot"] == 1
    assert 0.2 < share["head"] < 0.7
    assert max(share[name] for name in ("pelvis", "spine2", "left_hip", "right_knee", "left_shoulder")) < 0.05


def test_an_outline_that_is_the_masks_hardly_moves(model, standing, outlined):
    body = vertices_of(model, standing)
    moved = np.linalg.norm(outlined(thick(model, standing, 0.0)) - body, axis=1)
    assert moved.mean() < 0.001  # a pixel is 7 mm wide
    assert moved.max() < 0.006


def test_an_outline_goes_to_the_masks_and_the_surface_with_it(model, standing, outlined):
    body, faces, out_m = vertices_of(model, standing), model.faces.numpy(), 0.012
    mask = thick(model, standing, out_m)
    moved = outlined(mask)
    assert mask_iou(silhouette(moved, faces), mask) > 0.97 > 0.91 > mask_iou(silhouette(body, faces), mask)

    def aside(points):  # from the left
        middle = body.mean(0)
        return silhouette((points - middle) @ np.array([[0.0, 0, -1], [0, 1, 0], [1, 0, 0]]) + middle, faces)

    fixed = surface_mesh().vertices[: surface_mesh().anchors][surface_mesh().fixed]
    assert np.linalg.norm(moved - body, axis=1)[fixed].max() < 3e-4  # fingers, toes, the face
    assert ((face_normals(moved, faces) * face_normals(body, faces)).sum(1) < 0).mean() < 5e-3  # folded
    truth = aside(body + out_m * vertex_normals(body, faces))
    assert mask_iou(aside(moved), truth) > mask_iou(aside(body), truth) + 0.03  # a limb widens all round


def test_an_outline_does_not_go_to_what_is_carried_nor_to_the_pictures_border(model, standing, outlined):
    mask = thick(model, standing, 0.0)
    bag = mask.copy()
    bag[150:190, 180:240] = True
    assert np.linalg.norm(outlined(bag) - outlined(mask), axis=1).max() < 0.03
    cut, body = mask.copy(), vertices_of(model, standing)
    row = int(FOCAL * body[:, 1].max() / 3 + SIZE[1] / 2) - 40
    cut[row:] = False  # as where something stands before the shins
    moved = np.linalg.norm(outlined(cut) - body, axis=1)
    above = body[:, 1] < (row - 20 - SIZE[1] / 2) * 3 / FOCAL
    assert moved[above].mean() < 0.001
    nobody = np.zeros_like(mask)
    assert np.linalg.norm(outlined(nobody) - body, axis=1).max() < 0.1  # nothing runs away


def test_what_is_wrong_is_told(model, standing, camera, picture, tiny):
    mask = thick(model, standing, 0.0)
    with pytest.raises(OptionError, match="there are 1 bodies, but 2 masks"):
        bodyfit.clothed_surface(standing, picture, [mask, mask], camera, model)
    with pytest.raises(OptionError, match="but 3 cameras"):
        bodyfit.clothed_surface(standing, picture, mask, camera.select([0, 0, 0]), model)
    with pytest.raises(ShapeError, match="as large as the picture"):
        bodyfit.clothed_surface(standing, picture, mask[:-1], camera, model)
    with pytest.raises(OptionError, match="of the open body, got"):
        bodyfit.clothed_surface(tiny.params(), picture, mask, camera, tiny)


def test_the_texture_has_the_colours_of_the_picture(model, standing, camera, surface):
    mask = thick(model, standing, 0.03)
    picture = np.full((*mask.shape, 3), 255, np.uint8)
    picture[mask] = (200, 40, 60)
    texture = surface_texture(surface, 0, picture, mask, camera, size=128)
    assert texture.shape == (128, 128, 3)
    np.testing.assert_allclose(np.median(texture.reshape(-1, 3), 0), (200, 40, 60), atol=3)
    with pytest.raises(OptionError, match="person 0 is empty"):
        surface_texture(surface, 0, picture, np.zeros_like(mask), camera, size=128)


# ---------------------------------------------------------------- the command


def test_fit_writes_surfaces_with_skeleton_and_texture(tmp_path, capsys):
    picture = bodyfit.body.assets.asset_path("samples", "walking.jpg")
    assert main(["fit", str(picture), "--surface", "-o", str(tmp_path)]) == 0
    folder = tmp_path / "walking"
    entry = json.loads((tmp_path / "summary.json").read_text())["inputs"][0]["people"][0]
    names = {f"person0_clothed.{kind}" for kind in ("glb", "obj", "mtl", "png")}
    assert {f"walking/{name}" for name in names} <= set(entry["files"])
    assert names <= {path.name for path in folder.iterdir()}
    body, own = Gltf(folder / "person0.glb"), Gltf(folder / "person0_clothed.glb")
    assert len(own.json["skins"][0]["joints"]) == len(body.json["skins"][0]["joints"])
    assert len(own.json["images"]) == 1
    bare, dressed = (trimesh.load(folder / f"person0{part}.obj", process=False) for part in ("", "_clothed"))
    assert bare.faces.shape == dressed.faces.shape
    assert dressed.volume > bare.volume
    image = dressed.visual.material.image  # the .obj's own material and picture
    assert image.size == (1024, 1024)
    assert np.asarray(image).std() > 10
    assert "surface_note" not in entry
    assert all(_OURS.fullmatch(name) for name in names)  # another run takes them away
    capsys.readouterr()


def test_options_that_a_surface_contradicts_are_told(tmp_path, capsys):
    picture = bodyfit.body.assets.asset_path("samples", "walking.jpg")
    assert main(["fit", str(picture), "--surface", "--no-silhouette", "-o", str(tmp_path)]) == 2
    assert "--surface needs masks" in capsys.readouterr().err
    assert main(["fit", str(picture), "--surface", "--model", "smpl.pkl", "-o", str(tmp_path)]) == 2
    assert "of the open bodies" in capsys.readouterr().err


# ---------------------------------------------------------------- truth, losses, training


def test_the_truth_is_what_can_be_seen_from_outside():
    outer = trimesh.creation.icosphere(4, 0.5)
    inner = trimesh.creation.icosphere(3, 0.3)
    vertices = np.concatenate([outer.vertices, inner.vertices])
    faces = np.concatenate([outer.faces[:, ::-1], inner.faces + len(outer.vertices)])  # turned inside out, as cloth is
    points, normals = outer_points(vertices, faces, 0.03)
    away = np.linalg.norm(points, axis=1)
    assert np.abs(away - 0.5).max() < 0.01
    assert ((points * normals).sum(1) / away).min() > 0.95
    octants = np.bincount(((points > 0) @ [1, 2, 4]).astype(int), minlength=8)
    assert octants.min() > 0.8 * octants.max()


def test_held_out_clothes_are_in_no_picture_to_learn_from():
    learned, judged = (
        {name for outfit in outfits(60, 3, held_out=held_out) for name in worn_pieces(outfit)}
        for held_out in (False, True)
    )
    assert not learned & set(HELD_OUT)
    assert judged <= set(HELD_OUT)
    assert len(judged) >= 9


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Shards of two people, to learn from and held out."""
    folder = tmp_path_factory.mktemp("drawn")
    pose = torch.from_numpy(np.random.default_rng(5).normal(0, 0.15, (6, 23, 3))).float()
    motion = Motion(pose, torch.linspace(1 / 6, 1, 6, dtype=torch.float64), 1)
    for name, held_out in (("train-000", False), ("held", True)):
        write_shard(folder / f"{name}.npz", motion, 2, 4, held_out=held_out)
    return folder


def test_losses_are_distances_to_the_true_surface(drawn, model):
    mesh = surface_mesh()
    batch = Sampler(read_shards([drawn / "held.npz"]), mesh, 0).batch(0, 2, only="exact")
    loss_of = SurfaceLoss(mesh, torch.device("cpu"))
    zero = torch.zeros(2, mesh.anchors, 4)
    torch.testing.assert_close(loss_of.moved(zero, batch), batch.medium)
    room = (batch.medium - batch.t[:, None]) @ batch.R
    shard, _ = batch.truth[0]
    true = vertices_of(model, shard.params.select([batch.truth[0][1]]))[mesh.vertices]
    np.testing.assert_allclose(room[0].numpy(), true, atol=1e-4)  # the pictures' cameras see the body where it is

    def terms(out_m, aside_m=0.0):
        move = torch.tensor([out_m, aside_m, 0.0, 0.0]).expand(2, mesh.anchors, 4).clone().requires_grad_()
        found = loss_of.terms(move, batch, np.random.default_rng(0))
        assert torch.isfinite(torch.autograd.grad(sum(found.values()), move)[0]).all()
        return {name: float(term.detach()) for name, term in found.items()}

    naked, dressed, far, shifted = terms(0.0), terms(0.01), terms(0.1), terms(0.0, 0.05)
    assert dressed["there"] < naked["there"] < shifted["there"] < far["there"]  # clothes are about a centimetre thick
    assert 7 < far["there"] < 16  # centimetres, of which a half counts again
    assert naked["edges"] == 0
    assert naked["smooth"] == shifted["smooth"] < 0.1  # all go the same way


def test_erring_bodies_stand_where_their_size_fits_the_picture(drawn):
    mesh = surface_mesh()
    sampler = Sampler(read_shards([drawn / "train-000.npz"]), mesh, 0)
    for step in range(4):
        batch = sampler.batch(step, 4)
        assert batch.image.shape == (4, 9, SIDE, SIDE)
        assert bool(torch.isfinite(batch.image).all())
        for k, (shard, person) in enumerate(batch.truth):
            true = torch.from_numpy(shard.points[person]) @ batch.R[k].T + batch.t[k]
            own, true = ((x[:, :2] / x[:, 2:]).mean(0) for x in (batch.medium[k], true * batch.scale[k]))
            assert float((own - true).norm() * batch.medium[k, :, 2].mean()) < 0.1  # metres, in the picture's plane


def test_errors_of_fits_given_back_to_their_own_truth_are_the_fits(model):
    rng = np.random.default_rng(3)
    true = torch.from_numpy(rng.normal(0, 0.4, (1, model.body_joints, 3)))
    fitted = true + torch.from_numpy(rng.normal(0, 0.2, true.shape))
    betas = torch.from_numpy(rng.normal(0, 1, (2, 1, model.num_betas)))
    rays = torch.nn.functional.normalize(torch.tensor([[0.1, -0.2, 3.0]], dtype=torch.float64), dim=1)
    errors = errors_of(model, (betas[0], true), (betas[1], fitted), rays)
    again_betas, again = errors.applied(model, betas[0], true, rays, torch.ones(1), rng)
    torch.testing.assert_close(again_betas, betas[1])
    torch.testing.assert_close(global_rotations(model, again), global_rotations(model, fitted))
    none_betas, none = errors.applied(model, betas[0], true, rays, torch.zeros(1), rng)
    torch.testing.assert_close(none_betas, betas[0])
    torch.testing.assert_close(global_rotations(model, none), global_rotations(model, true))


def test_a_tilt_in_depth_leaves_the_limb_where_it_is_in_the_picture(model):
    """A forearm tilted about the axis across it and the ray: its direction stays in the plane of both."""
    turns = torch.zeros(1, model.body_joints, 3, dtype=torch.float64)
    elbow = 18
    turns[0, elbow, 0] = 0.3
    errors = FitErrors(turns, torch.zeros(1, model.num_betas, dtype=torch.float64))
    pose = torch.zeros(1, model.body_joints, 3, dtype=torch.float64)
    ray = torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64)
    args = torch.ones(1), np.random.default_rng(0)
    _, wrong = errors.applied(model, torch.zeros(1, model.num_betas, dtype=torch.float64), pose, ray, *args)
    with torch.no_grad():
        joints = [
            model(**model.params(body_pose=p[:, 1:].flatten(1).float())).joints[0].double() for p in (pose, wrong)
        ]
    before, after = (torch.nn.functional.normalize(j[20] - j[elbow], dim=0) for j in joints)
    assert float(torch.rad2deg(torch.arccos(before @ after))) == pytest.approx(np.degrees(0.3), abs=0.1)
    assert float((after[:2] / after[:2].norm()) @ (before[:2] / before[:2].norm())) > 0.9999
    for j in set(range(model.body_joints)) - {20, 22}:  # all other joints keep their places
        torch.testing.assert_close(joints[0][j], joints[1][j], atol=1e-5, rtol=0)


def test_pictures_to_fit_have_the_principal_point_in_the_middle():
    drawn = np.zeros((40, 40, 4), np.uint8)
    drawn[8:12, 28:32] = 255
    picture, corner = on_canvas(drawn, np.array([50.0, 26.0, 15.0]), np.random.default_rng(0))
    assert picture.shape[0] == picture.shape[1]
    y, x = np.nonzero(picture.min(2) > 245)
    middle = np.array(picture.shape[1::-1]) / 2
    np.testing.assert_allclose([x.mean() + 0.5, y.mean() + 0.5] - middle, [2 * (30 - 26), 2 * (10 - 15)], atol=0.3)
    np.testing.assert_allclose(middle - corner, (52, 30))


def test_fits_that_are_right_are_where_the_true_bodies_are(drawn, tmp_path, model):
    """The true bodies, written in the camera's axes as fits are, give the same sample as exact ones."""
    shard = tmp_path / "held.npz"
    shard.symlink_to(drawn / "held.npz")
    with np.load(shard) as data:
        R, t, count = data["R"][:, 0], data["t"][:, 0], len(data["points"])
        values = {name: torch.from_numpy(data[name]) for name in ("betas", "body_pose", "global_orient", "transl")}
    room = model(**values).joints[:, 0].numpy()
    turned = np.concatenate(
        [turned_orient(o[None], r) for o, r in zip(values["global_orient"].double().numpy(), R, strict=True)]
    )
    values["global_orient"] = torch.from_numpy(turned).float()
    there = np.einsum("nij,nj->ni", R, room) + t
    values["transl"] = values["transl"] + torch.from_numpy(there).float() - model(**values).joints[:, 0]
    arrays = {name: value.numpy() for name, value in values.items()}
    masks = np.zeros((count, 176, 176), np.uint8)
    np.savez(fits_path(shard), **arrays, masks=masks, good=np.ones(count, bool), camera=np.zeros(count, np.int64))
    sampler = Sampler(read_shards([shard]), surface_mesh(), 0)
    assert sampler.fitted == count
    fitted = sampler.batch(0, count, only="fitted")
    np.testing.assert_allclose(fitted.weight, 1, atol=1e-3)
    np.testing.assert_allclose(fitted.scale, 1, atol=1e-4)
    own = (fitted.medium - fitted.t[:, None]) @ fitted.R
    exact = sampler.batch(0, count, only="exact")
    np.testing.assert_allclose(own, (exact.medium - exact.t[:, None]) @ exact.R, atol=1e-4)


def test_training_goes_on_where_it_was_stopped(drawn, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(clothed_surface_script, "_CHECKED", 1)

    def weights(name, *steps):
        folder = tmp_path / name
        folder.mkdir()
        for path in drawn.iterdir():
            (folder / path.name).symlink_to(path)
        for until in steps:
            args = SimpleNamespace(data=folder, steps=3, until=until, batch=1, rate=1e-3, every=1, device="cpu", seed=0)
            network = clothed_surface_script.train(args, [folder / "train-000.npz"])
        return network.state_dict()

    whole, halves = weights("whole", 3), weights("halves", 1, 3)
    for name, value in whole.items():
        torch.testing.assert_close(value, halves[name], rtol=0, atol=0)
    assert any(float((value != 0).float().mean()) > 0 for name, value in whole.items() if name.startswith("moves"))
    assert "held out exact" in capsys.readouterr().out
