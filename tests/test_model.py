"""The body layer: agreement with smplx, gradients, batches, symmetries, and what a body of ours looks like."""

from __future__ import annotations

import pickle
from itertools import pairwise

import chumpy
import numpy as np
import pytest
import scipy.sparse
import smplx
import torch
import trimesh
from conftest import tiny_body
from scipy.spatial.transform import Rotation
from smplx.utils import Struct
from smplx.vertex_ids import vertex_ids

import bodyfit
from bodyfit.body.assets import load_assets
from bodyfit.body.files.archive import asset_path
from bodyfit.body.model import BodyModel, load_model
from bodyfit.body.pose_prior import load_pose_prior
from bodyfit.body.record import GENDERS, PoseBlocks
from bodyfit.body.sample import random_bodies
from bodyfit.errors import AssetError, OptionError, ShapeError
from bodyfit.skeleton import LAYOUTS, SMPL

F64 = torch.float64


def rand(seed: int, *shape: int, dtype=F64) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(dtype)


def some_params(batch: int, *, dtype=F64, angle: float = 0.6) -> dict[str, torch.Tensor]:
    return {
        "betas": rand(1, batch, 10, dtype=dtype),
        "body_pose": angle * rand(2, batch, 69, dtype=dtype),
        "global_orient": rand(3, batch, 3, dtype=dtype),
        "transl": rand(4, batch, 3, dtype=dtype),
    }


@pytest.fixture(scope="module")
def open_model() -> BodyModel:
    return load_model(dtype=F64)


@pytest.fixture(scope="module", params=GENDERS)
def gendered(request) -> BodyModel:
    return load_model("open", gender=request.param, dtype=F64)


# Agreement with smplx, which knows nothing of this package.


@pytest.fixture(scope="module")
def tiny_pkl(tmp_path_factory):
    """The tiny body with pose correctives, as chumpy and scipy pickled SMPL's; both packages read this one file."""
    arrays = {k: v for k, v in tiny_body(posedirs=True).items() if not k.startswith("keypoint")}
    assert np.abs(arrays["posedirs"]).max() > 1e-3
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        arrays[key] = chumpy.array(arrays[key])
    arrays["J_regressor"] = scipy.sparse.csc_matrix(arrays["J_regressor"])
    path = tmp_path_factory.mktemp("smplx") / "SMPL_NEUTRAL.pkl"
    path.write_bytes(pickle.dumps(arrays, 2))
    return path


def reference(path, batch: int, dtype) -> smplx.SMPL:
    anywhere = dict.fromkeys(vertex_ids["smplh"], 0)  # its extra joints are vertices of the full mesh
    model = smplx.SMPL(str(path), batch_size=batch, dtype=dtype, vertex_ids=anywhere)
    arrays = tiny_body(posedirs=True)
    return unrounded(model, arrays | {"posedirs": arrays["posedirs"].reshape(-1, 207).T})


def unrounded(model: smplx.SMPL, arrays) -> smplx.SMPL:
    """smplx rounds a file to float32 even where it computes in float64; give it the numbers that the file holds."""
    names = {"weights": "lbs_weights"}
    for key in ("v_template", "shapedirs", "posedirs", "J_regressor", "weights"):
        buffer = getattr(model, names.get(key, key))
        full = torch.from_numpy(np.ascontiguousarray(arrays[key])).to(buffer)
        torch.testing.assert_close(buffer, full, atol=1e-6, rtol=0)
        buffer.copy_(full)
    return model


def matrices(rotvecs: torch.Tensor) -> torch.Tensor:
    R = Rotation.from_rotvec(rotvecs.double().reshape(-1, 3).numpy()).as_matrix()
    return torch.from_numpy(R).to(rotvecs).view(len(rotvecs), -1, 3, 3)


def smplx_on_matrices(model: smplx.SMPL, p: dict[str, torch.Tensor]):
    """smplx adds 1e-8 to every axis-angle; rotation matrices, made by scipy, go round that."""
    turned = {k: matrices(p[k]) for k in ("body_pose", "global_orient")}
    return model(betas=p["betas"], transl=p["transl"], pose2rot=False, **turned)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 0.003, 0.6, 3.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(F64, 1e-12), (torch.float32, 2e-6)])
def test_vertices_and_joints_are_those_of_smplx(tiny_pkl, angle, dtype, tolerance):
    """float32: ten products along a chain of metres, each good to 6e-8 of a coordinate up to 4 with `transl`."""
    p = some_params(5, dtype=dtype, angle=angle)
    want = smplx_on_matrices(reference(tiny_pkl, 5, dtype), p)
    got = load_model(tiny_pkl, dtype=dtype)(**p)
    torch.testing.assert_close(got.vertices, want.vertices.detach(), atol=tolerance, rtol=0)
    torch.testing.assert_close(got.joints, want.joints[:, :24].detach(), atol=tolerance, rtol=0)


def test_parameters_have_the_names_and_shapes_of_smplx(tiny_pkl):
    """The same keyword arguments to both, as a user would pass them on."""
    p = some_params(3)
    want = reference(tiny_pkl, 3, F64)(**p)
    got = load_model(tiny_pkl, dtype=F64)(**p)
    torch.testing.assert_close(got.vertices, want.vertices.detach(), atol=1e-6, rtol=0)  # smplx's 1e-8 on the angles


def test_the_open_body_is_an_smpl_body_to_smplx_too(gendered):
    a = load_assets("open", gender=gendered.gender)
    arrays = {k: getattr(a, k) for k in ("v_template", "shapedirs", "J_regressor", "weights")}
    blocks = a.posedirs
    assert isinstance(blocks, PoseBlocks), "few joints move a vertex"
    arrays["posedirs"] = blocks.dense(len(a.v_template), 24)
    table = np.stack([np.array(a.parents), np.arange(24)])
    anywhere = dict.fromkeys(vertex_ids["smplh"], 0)
    model = smplx.SMPL(
        "", data_struct=Struct(**arrays, f=a.faces, kintree_table=table), batch_size=2, dtype=F64, vertex_ids=anywhere
    )
    model = unrounded(model, arrays | {"posedirs": arrays["posedirs"].reshape(-1, 207).T})
    p = some_params(2)
    want, got = smplx_on_matrices(model, p), gendered(**p)
    torch.testing.assert_close(got.vertices, want.vertices.detach(), atol=1e-12, rtol=0)
    torch.testing.assert_close(got.joints, want.joints[:, :24].detach(), atol=1e-12, rtol=0)


def test_joints_are_the_regressor_on_the_rest_body(tiny):
    out = tiny(betas=rand(0, 4, 10))
    regressor = torch.from_numpy(tiny_body()["J_regressor"])
    torch.testing.assert_close(out.joints, regressor @ out.vertices, atol=1e-12, rtol=0)


# Gradients.


@pytest.fixture(scope="module")
def tiny_correctives(tmp_path_factory) -> BodyModel:
    path = tmp_path_factory.mktemp("bodies") / "tiny.npz"
    np.savez(path, **tiny_body(posedirs=True))
    return load_model(path, dtype=F64)


@pytest.mark.parametrize("angle", [0.0, 1e-5, 0.0099, 0.7])  # at zero, beside it, where the series ends, anywhere
def test_gradients(tiny_correctives, angle):
    p = some_params(1, angle=angle)
    p["global_orient"] = p["global_orient"] * (angle > 0)
    inputs = tuple(v.requires_grad_() for v in p.values())

    def points(betas, body_pose, global_orient, transl):
        out = tiny_correctives(betas, body_pose, global_orient, transl)
        return out.vertices[:, ::24], out.joints[:, ::4], tiny_correctives.keypoints(out, "coco17")[:, :1]

    assert torch.autograd.gradcheck(points, inputs)


def test_second_derivatives_are_finite_at_rest(tiny):
    pose = torch.zeros(1, 69, dtype=F64, requires_grad=True)
    (slope,) = torch.autograd.grad(tiny(body_pose=pose).vertices.square().sum(), pose, create_graph=True)
    (curve,) = torch.autograd.grad(slope.sum(), pose)
    assert torch.isfinite(curve).all()
    assert curve.abs().max() > 0


# Batches and shapes.


def test_a_batch_is_its_items(tiny):
    p = some_params(4)
    together = tiny(**p)
    for i in range(4):
        alone = tiny(**{k: v[i : i + 1] for k, v in p.items()})
        torch.testing.assert_close(together.vertices[i : i + 1], alone.vertices, atol=1e-13, rtol=0)
        torch.testing.assert_close(together.joints[i : i + 1], alone.joints, atol=1e-13, rtol=0)


@pytest.mark.parametrize(
    "given", [("betas",), ("body_pose", "transl"), ("betas", "body_pose", "global_orient", "transl")]
)
def test_an_empty_batch_gives_an_empty_batch(tiny, given):
    p = {k: v for k, v in some_params(0).items() if k in given}
    out = tiny(**p)
    assert out.vertices.shape == (0, 192, 3)
    assert out.joints.shape == (0, 24, 3)
    assert tiny.keypoints(out, "openpose25").shape == (0, 25, 3)
    assert tiny(betas=torch.zeros(1, 10, dtype=F64), **{k: v for k, v in p.items() if k != "betas"}).joints.ndim == 3


def test_what_is_left_out_is_zero(tiny):
    nothing, zeros = tiny(), tiny(**{k: v * 0 for k, v in some_params(1).items()})
    assert nothing.vertices.shape == (1, 192, 3)
    torch.testing.assert_close(nothing.vertices, zeros.vertices, atol=0, rtol=0)
    torch.testing.assert_close(nothing.vertices[0], tiny.v_template, atol=1e-15, rtol=0)


@pytest.mark.parametrize("one", ["betas", "body_pose", "global_orient", "transl"])
def test_a_batch_of_one_is_repeated(tiny, one):
    p = some_params(5)
    single = p | {one: p[one][:1]}
    repeated = p | {one: p[one][:1].repeat(5, 1)}
    torch.testing.assert_close(tiny(**single).vertices, tiny(**repeated).vertices, atol=1e-14, rtol=0)


def test_shapes_that_smplx_takes_mean_the_same(tiny):
    p = some_params(3)
    same = p | {"body_pose": p["body_pose"].view(3, 23, 3), "global_orient": p["global_orient"].view(3, 1, 3)}
    torch.testing.assert_close(tiny(**same).vertices, tiny(**p).vertices, atol=0, rtol=0)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_fewer_betas_are_filled_with_zeros(tiny, n):
    betas = rand(0, 2, 10)
    short = tiny(betas=betas[:, :n])
    betas[:, n:] = 0
    torch.testing.assert_close(short.vertices, tiny(betas=betas).vertices, atol=0, rtol=0)


def test_a_model_of_fewer_betas_is_the_start_of_the_full_one(tiny, tiny_path):
    few = load_model(tiny_path, num_betas=4, dtype=F64)
    assert few.num_betas == 4
    assert load_model(tiny_path, num_betas=300).num_betas == 10
    betas = rand(0, 2, 4)
    torch.testing.assert_close(few(betas=betas).vertices, tiny(betas=betas).vertices, atol=1e-14, rtol=0)
    with pytest.raises(ShapeError, match=r"betas must be \(B, 4\)"):
        few(betas=rand(0, 2, 5))


@pytest.mark.parametrize("num_betas", [-1, -10])
def test_a_negative_number_of_betas_is_refused(tiny_path, num_betas):
    with pytest.raises(OptionError, match="num_betas"):
        load_model(tiny_path, num_betas=num_betas)


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("betas", (2, 11), r"betas must be \(B, 10\), got \(2, 11\)"),
        ("betas", (10,), r"betas must be \(B, 10\), got \(10,\)"),
        ("body_pose", (2, 72), r"body_pose must be \(B, 69\) or \(B, 23, 3\), got \(2, 72\)"),
        ("body_pose", (2, 24, 3), r"body_pose must be .* got \(2, 24, 3\)"),
        ("body_pose", (2, 23, 3, 3), r"body_pose must be .* got \(2, 23, 3, 3\)"),
        ("global_orient", (3,), r"global_orient must be \(B, 3\) or \(B, 1, 3\), got \(3,\)"),
        ("global_orient", (2, 3, 3), r"global_orient must be \(B, 3\) or \(B, 1, 3\), got \(2, 3, 3\)"),
        ("transl", (2, 4), r"transl must be \(B, 3\), got \(2, 4\)"),
        ("transl", (), r"transl must be \(B, 3\), got \(\)"),
    ],
)
def test_wrong_shapes_are_named(tiny, name, shape, message):
    with pytest.raises(ShapeError, match=message):
        tiny(**{name: torch.zeros(shape, dtype=F64)})


@pytest.mark.parametrize("batches", [(2, 3), (0, 2)])
def test_batches_that_differ_are_named(tiny, batches):
    a, b = batches
    with pytest.raises(ShapeError, match=f"batches differ: betas {a}, transl {b}"):
        tiny(betas=torch.zeros(a, 10), transl=torch.zeros(b, 3))


def test_params_are_a_mapping_that_the_model_takes(tiny):
    params = tiny.params(**some_params(3))
    assert list(params) == ["betas", "body_pose", "global_orient", "transl"]
    assert params.batch == 3
    torch.testing.assert_close(tiny(**params).vertices, tiny(**some_params(3)).vertices, atol=0, rtol=0)
    some = params.select([2, 0])
    torch.testing.assert_close(tiny(**some).joints, tiny(**params).joints[[2, 0]], atol=1e-13, rtol=0)
    assert params.to(torch.float32).betas.dtype == torch.float32
    with pytest.raises(KeyError):
        params["batch"]


# Types and devices.


def test_float32_is_float64_to_rounding(open_model):
    p = some_params(3)
    single, double = load_model()(**p), open_model(**p)
    assert single.vertices.dtype == torch.float32
    assert double.vertices.dtype == F64
    # Ten bones of about 0.3 m with 6e-8 each, and transl of up to 3 m.
    torch.testing.assert_close(single.vertices.double(), double.vertices, atol=3e-6, rtol=0)
    torch.testing.assert_close(load_model().double().v_template, open_model.v_template, atol=1e-7, rtol=0)


@pytest.mark.parametrize(
    "device",
    ["cpu", "meta", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))],
)
def test_everything_is_on_the_device_that_was_asked_for(tiny_path, device):
    """The meta device fails on any hidden trip to another one."""
    model = load_model(tiny_path, device=device)
    p = {k: v.to(device) for k, v in some_params(2, dtype=torch.float32).items()}
    out = model(**p)
    assert model.device.type == out.vertices.device.type == out.joints.device.type == device
    assert model().vertices.device.type == device


# Equivariance.


def test_translation_moves_the_body(tiny_correctives):
    p = some_params(3)
    still, moved = (tiny_correctives(**(p | {"transl": t})) for t in (torch.zeros(3, 3, dtype=F64), p["transl"]))
    torch.testing.assert_close(moved.vertices, still.vertices + p["transl"][:, None], atol=1e-13, rtol=0)
    torch.testing.assert_close(moved.joints, still.joints + p["transl"][:, None], atol=1e-13, rtol=0)


def test_global_orient_turns_the_body_about_the_pelvis(tiny_correctives):
    p = some_params(3)
    upright = tiny_correctives(**(p | {"global_orient": torch.zeros(3, 3, dtype=F64)}))
    turned = tiny_correctives(**p)
    R = matrices(p["global_orient"])[:, 0]
    pelvis = upright.joints[:, :1]
    torch.testing.assert_close(turned.joints[:, :1], pelvis, atol=1e-13, rtol=0)
    for before, after in ((upright.vertices, turned.vertices), (upright.joints, turned.joints)):
        torch.testing.assert_close(after, (before - pelvis) @ R.mT + pelvis, atol=1e-12, rtol=0)


def test_a_joint_moves_only_what_is_below_it(open_model):
    pose = torch.zeros(1, 23, 3, dtype=F64)
    pose[0, SMPL.index("left_elbow") - 1, 1] = -1.0
    moved = (open_model(body_pose=pose).joints - open_model().joints)[0].norm(dim=1) > 1e-9
    assert {n for n, m in zip(SMPL.names, moved, strict=True) if m} == {"left_wrist", "left_hand"}


def test_lengths_of_bones_do_not_depend_on_the_pose(open_model):
    p = some_params(4)
    child, parent = list(range(1, 24)), list(SMPL.parents[1:])
    posed, rest = open_model(**p).joints, open_model(betas=p["betas"]).joints
    lengths = [(j[:, child] - j[:, parent]).norm(dim=2) for j in (posed, rest)]
    torch.testing.assert_close(*lengths, atol=1e-12, rtol=0)


# The open bodies.


def joint_mirror() -> list[int]:
    swap = {"left": "right", "right": "left"}
    return [SMPL.index("_".join(swap.get(part, part) for part in name.split("_"))) for name in SMPL.names]


def mirror_pose(rotvecs: torch.Tensor) -> torch.Tensor:
    """The reflection x -> -x of (B, 24, 3) axis-angles: a rotation's axis is a pseudovector."""
    return rotvecs[:, joint_mirror()] * rotvecs.new_tensor([1.0, -1.0, -1.0])


def test_mirrored_pose_gives_mirrored_vertices(gendered):
    with np.load(asset_path("body", "open.npz")) as file:
        mirror = torch.from_numpy(file["mirror"].astype(np.int64))
    assert torch.equal(mirror[mirror], torch.arange(len(mirror))), "a reflection is its own inverse"
    p = some_params(2)
    pose = mirror_pose(torch.cat([p["global_orient"], p["body_pose"]], 1).view(2, 24, 3))
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=F64)
    got = gendered(betas=p["betas"], body_pose=pose[:, 1:], global_orient=pose[:, 0], transl=p["transl"] * flip)
    want = gendered(**p)
    # The file holds float32 of metres and regressors.
    torch.testing.assert_close(got.joints, want.joints[:, joint_mirror()] * flip, atol=2e-6, rtol=0)
    torch.testing.assert_close(got.vertices, want.vertices[:, mirror] * flip, atol=2e-6, rtol=0)


def test_the_mesh_is_closed_and_faces_outward(gendered):
    for betas in (np.zeros(10), np.full(10, 1.0), np.full(10, -1.0)):
        vertices = gendered(betas=torch.from_numpy(betas)[None]).vertices[0].numpy()
        mesh = trimesh.Trimesh(vertices, gendered.faces.numpy(), process=False)
        assert mesh.is_watertight
        assert mesh.is_winding_consistent
        assert 0.03 < mesh.volume < 0.2, "cubic metres: 30 to 200 kg"
    used = np.unique(gendered.faces.numpy())
    np.testing.assert_array_equal(used, np.arange(len(gendered.v_template)))


def test_sizes_of_bodies_are_those_of_adults(gendered):
    betas = rand(0, 64, 10).clamp(-2.5, 2.5)
    height = np.ptp(gendered(betas=betas).vertices[..., 1].numpy(), axis=1)
    mean = np.ptp(gendered.v_template[:, 1].numpy())
    low, high = {"neutral": (1.6, 1.8), "male": (1.7, 1.85), "female": (1.55, 1.7)}[gendered.gender]
    assert low < mean < high
    assert height.min() > 1.35
    assert height.max() < 2.15
    assert height.std() > 0.03, "the shapes differ"


def test_men_are_taller_than_women():
    tall = {g: np.ptp(load_model(gender=g).v_template[:, 1].numpy()) for g in GENDERS}
    assert tall["male"] > tall["neutral"] > tall["female"]


def test_skinning_weights_are_few_and_sum_to_one(gendered):
    weights = gendered.weights.numpy()
    assert (weights > 0).sum(1).max() <= 8
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert set(weights.argmax(1)) == set(range(24)), "each bone has skin of its own"


def test_regressors_are_means_of_nearby_skin(gendered):
    a = load_assets("open", gender=gendered.gender)
    for row in (*a.J_regressor, *a.keypoints.values()):
        assert row.min() >= 0
        assert row.sum() == pytest.approx(1, abs=1e-5)
        used = a.v_template[row > 0]
        assert np.ptp(used, axis=0).max() < 0.6


def test_keypoints_lie_where_their_names_say(gendered):
    """The model's frame: y up, z forward, x to the body's left."""
    betas = torch.cat([torch.zeros(1, 10, dtype=F64), rand(5, 15, 10).clamp(-2, 2)])
    out = gendered(betas=betas)
    at = {n: gendered.point(out, n) for n in (*gendered.keypoint_names, *SMPL.names)}
    for name, point in at.items():
        if name.startswith("left_"):
            other = at[name.replace("left_", "right_")]
            assert (point[:, 0] > 0).all(), name
            torch.testing.assert_close(other, point * point.new_tensor([-1, 1, 1]), atol=2e-6, rtol=0, msg=name)
        elif not name.startswith("right_"):
            part = name.split("_")
            if part[-1] not in ("left", "right"):  # mouth_left
                assert (point[:, 0].abs() < 1e-5).all(), name
    for side in ("left", "right"):
        assert (at[f"{side}_big_toe"][:, 2] > at[f"{side}_heel"][:, 2] + 0.15).all(), "toes in front of heels"
        assert (at[f"{side}_big_toe"][:, 0].abs() < at[f"{side}_small_toe"][:, 0].abs()).all(), "great toe inside"
        assert (at[f"{side}_small_toe"][:, 2] > at[f"{side}_heel"][:, 2]).all()
        assert (at["nose"][:, 2] > at[f"{side}_ear"][:, 2] + 0.05).all(), "nose in front of ears"
        assert (at["nose"][:, 2] > at[f"{side}_eye"][:, 2]).all()
        assert (at[f"{side}_eye"][:, 2] > at[f"{side}_ear"][:, 2]).all()
        assert (at[f"{side}_eye"][:, 1] > at["nose"][:, 1]).all()
        assert (at[f"{side}_eye_outer"][:, 0].abs() > at[f"{side}_eye_inner"][:, 0].abs()).all()
        chain = [at[f"{side}_{n}"][:, 1] for n in ("shoulder", "hip", "knee", "ankle", "heel")]
        assert all((up > down).all() for up, down in pairwise(chain)), "shoulder to heel goes down"
        reach = [at[f"{side}_{n}"][:, 0].abs() for n in ("shoulder", "elbow", "wrist", "middle_knuckle", "middle_tip")]
        assert all((b > a).all() for a, b in pairwise(reach)), "shoulder to finger goes out"
        assert (at[f"{side}_thumb_tip"][:, 2] > at[f"{side}_pinky_tip"][:, 2]).all(), "thumbs forward in the T-pose"
    assert (at["head_top"][:, 1] >= out.vertices[..., 1].amax(1) - 0.03).all()
    assert (at["chin"][:, 1] < at["nose"][:, 1]).all()
    assert (at["mouth_left"][:, 0] > at["mouth_right"][:, 0]).all()
    down = out.vertices[..., 1].amin(1)
    for side in ("left", "right"):
        assert (at[f"{side}_heel"][:, 1] < down + 0.06).all()


def test_joints_lie_inside_the_body(open_model):
    mesh = trimesh.Trimesh(open_model.v_template.numpy(), open_model.faces.numpy(), process=False)
    joints = open_model().joints[0].numpy()
    # Solid angle of the closed mesh about a point: 4 pi inside, 0 outside (van Oosterom and Strackee 1983).
    a, b, c = (mesh.triangles[None, :, i] - joints[:, None] for i in range(3))
    na, nb, nc = (np.linalg.norm(v, axis=2) for v in (a, b, c))
    top = np.einsum("jfc,jfc->jf", a, np.cross(b, c))
    dots = [np.einsum("jfc,jfc->jf", u, v) for u, v in ((a, b), (b, c), (c, a))]
    angle = 2 * np.arctan2(top, na * nb * nc + dots[0] * nc + dots[1] * na + dots[2] * nb).sum(1)
    inside = angle / (4 * np.pi)
    assert {n for n, w in zip(SMPL.names, inside, strict=True) if abs(w - 1) > 0.01} == set()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_has_its_keypoints_on_the_open_body(open_model, layout):
    out = open_model()
    points = open_model.keypoints(out, layout)
    assert points.shape == (1, len(LAYOUTS[layout]), 3)
    known = torch.isfinite(points).all(2)[0]
    if "face_0" not in LAYOUTS[layout]:  # of the face's outline there are no points
        assert known.all()
    assert known.sum() >= 14
    low, high = out.vertices.amin(1), out.vertices.amax(1)
    assert ((points[:, known] >= low) & (points[:, known] <= high)).all()


# Random bodies.


def test_random_bodies_are_the_same_for_the_same_seed(open_model):
    a, b, c = (random_bodies(6, model=open_model, seed=s) for s in (7, 7, 8))
    for key in a:
        assert torch.equal(a[key], b[key]), key
    assert (a.betas - c.betas).abs().amax(1).min() > 0.01
    assert (a.body_pose - c.body_pose).abs().amax(1).min() > 0.01
    assert (a.body_pose[0] - a.body_pose[1:]).abs().amax(1).min() > 0.01, "each body has its own pose"
    assert torch.equal(bodyfit.random_bodies(2, seed=7).betas, random_bodies(2, seed=7).betas)


def test_random_bodies_stay_within_the_limits(open_model):
    prior = load_pose_prior()
    bodies = random_bodies(500, model=open_model, seed=1, max_sd=2.0)
    assert bodies.betas.abs().max() <= 2
    assert bodies.betas.std() > 0.7
    # A fold, not a clip: no heap of bodies at the limit.
    assert (bodies.betas.abs() > 1.999).double().mean() < 0.005
    pose = bodies.body_pose.numpy()
    assert (pose >= prior.limits_lower - 1e-12).all()
    assert (pose <= prior.limits_upper + 1e-12).all()
    assert not bodies.global_orient.any()
    assert not bodies.transl.any()
    assert torch.isfinite(open_model(**bodies.select(slice(0, 8))).vertices).all()


def test_random_bodies_suit_their_model(tiny_path, open_model):
    few = load_model(tiny_path, num_betas=3)
    bodies = random_bodies(4, model=few, seed=0)
    assert bodies.betas.shape == (4, 3)
    assert bodies.betas.dtype == torch.float32
    assert random_bodies(0, model=open_model).batch == 0
    with pytest.raises(OptionError, match="n must not be negative"):
        random_bodies(-1, model=open_model)


def test_random_bodies_stand_upright(open_model):
    out = open_model(**random_bodies(32, model=open_model, seed=2))
    up = out.joints[:, SMPL.index("neck"), 1] - out.joints[:, SMPL.index("pelvis"), 1]
    assert (up > 0).double().mean() > 0.9


def test_a_missing_body_names_what_there_is(tmp_path):
    with pytest.raises(AssetError, match=r"none\.npz: no such file"):
        load_model(tmp_path / "none.npz")
    with pytest.raises(OptionError, match="gender must be one of"):
        load_model(gender="women")
