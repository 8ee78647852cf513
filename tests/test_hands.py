"""Hands in a fit: derivatives of their points and residuals, what is not seen, left and right, what is refused."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import roma
import torch
from conftest import tiny_assets
from test_fused import agree

import bodyfit
from bodyfit.app.parts import part_arrays
from bodyfit.body.hand_prior import load_hand_prior
from bodyfit.body.model import BodyModel
from bodyfit.body.points.face import face_entries
from bodyfit.body.points.posed import Points, VertexSum, pose_tree
from bodyfit.errors import OptionError, ShapeError
from bodyfit.fit.config import StageConfig
from bodyfit.fit.fitter import Fitter
from bodyfit.fit.initialise.hand_tree import HAND_SIZE, pose_hand
from bodyfit.fit.initialise.hands import HandObservations, _HandObjective, mirrored_hands
from bodyfit.fit.objective import StageObjective
from bodyfit.fit.observations import Observations
from bodyfit.fit.parts import PartObservations
from bodyfit.fit.residuals.parts.hand_overlap import HandOverlap
from bodyfit.fit.variables import Variables
from bodyfit.fit.whole import WholeBody
from bodyfit.geometry.camera import Camera
from bodyfit.keypoints import Keypoints2D, Part, hand_joints_of_mediapipe
from bodyfit.skeleton import hand_entries, layout_names, mirrored_rows

F64 = torch.float64
FACE = ("face", "openings", "gaze", "jaw_and_eyes", "expression", "jaw_limits", "face_scale", "face_offset")
HANDS = ("hands", "hands_lift", "hands_points", "hand_pose", "hand_limits", "hand_overlap", "hand_scale", "hand_offset")
ON_PARTS = (*HANDS, *FACE)
"""The residuals about hands and faces."""
SIZE, FOCAL_PX = (1000, 1000), 1000.0


@pytest.fixture(scope="module")
def tiny() -> BodyModel:
    return BodyModel(tiny_assets("smplx", posedirs="dense"), dtype=F64)


@pytest.fixture(scope="module")
def open_x() -> BodyModel:
    return bodyfit.load_model("open-x")


@pytest.fixture(scope="module")
def fitter(open_x) -> Fitter:
    return Fitter(model=open_x, layout="openpose25")


def differences(fn, x: torch.Tensor, step: float = 1e-6) -> torch.Tensor:
    """Central differences of a function of one person's variables (1, D), all columns in one batch; (1, ..., D)."""
    n = x.shape[1]
    moved = step * torch.eye(n, dtype=x.dtype)
    values = fn(torch.cat([x + moved, x - moved]))
    return ((values[:n] - values[n:]) / (2 * step)).movedim(0, -1)[None]


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def some_x(layout: Variables, scale: float = 0.3, batch: int = 1) -> torch.Tensor:
    x = scale * torch.randn(batch, layout.size, generator=generator(), dtype=F64)
    return layout.put(x, transl=x[:, layout["transl"]] + torch.tensor([0.0, 0.0, 3.0], dtype=F64))


def test_points_of_the_whole_body_are_the_models_and_have_its_derivatives(tiny):
    layout = Variables.of(tiny, whole=True)
    on_skin = VertexSum((3, 40, 200), (0.2, 0.3, 0.5))
    points = Points(tiny, [{"left_index3": 1.0}, {"jaw": 0.5, "right_thumb2": 0.5}, on_skin], whole=True)
    x = some_x(layout)

    def place(x: torch.Tensor):
        return points.place(pose_tree(tiny, layout.coefficients(x), layout.rotvecs(x)), layout.coefficients(x))

    body = tiny(**layout.params(x))
    names, placed = tiny.skeleton, place(x)
    want = torch.stack(
        [
            body.joints[:, names.index("left_index3")],
            0.5 * (body.joints[:, names.index("jaw")] + body.joints[:, names.index("right_thumb2")]),
            0.2 * body.vertices[:, 3] + 0.3 * body.vertices[:, 40] + 0.5 * body.vertices[:, 200],
        ],
        1,
    )
    torch.testing.assert_close(placed.positions + x[:, None, layout["transl"]], want)
    got = torch.zeros(1, 3, 3, layout.size, dtype=F64)
    got[..., list(layout.point_columns(points.joints, points.coefficients))] = placed.jacobian()

    def flat(x: torch.Tensor) -> torch.Tensor:
        return (place(x).positions + x[:, None, layout["transl"]]).flatten(1)

    torch.testing.assert_close(got.flatten(1, 2), differences(flat, x), atol=1e-7, rtol=0)


@pytest.fixture(scope="module")
def open_x64() -> BodyModel:
    return bodyfit.load_model("open-x", dtype=F64)


def objective_of(tiny: BodyModel, name: str, face_points: int = 0) -> tuple[StageObjective, torch.Tensor]:
    """An objective of one residual about hands or face, with all the evidence that there can be, and a place."""
    g, batch = generator(), 1
    fitter = Fitter(model=tiny, layout="coco17")
    whole = WholeBody(fitter.terms, "coco17", fitter.config, face_points, offsets=name.endswith("offset"))
    layout = whole.layout
    x = some_x(layout, 0.2, batch)
    hands, face = whole.terms.setup.hands, whole.terms.setup.face
    assert hands is not None
    at = hands.place(pose_tree(tiny, layout.coefficients(x), layout.rotvecs(x)), layout.coefficients(x)).positions
    at = at + x[:, None, layout["transl"]]
    tree = pose_tree(tiny, layout.coefficients(x), layout.rotvecs(x))
    on_face = {}
    if face is not None:
        places = face.place(tree, layout.coefficients(x)).positions + x[:, None, layout["transl"]]
        off = 0.01 * torch.randn(batch, face_points, 2, generator=g, dtype=F64)
        on_face = {
            "face_target": places[..., :2] / places[..., 2:] + off,
            "face_weight": torch.rand(batch, face_points, generator=g, dtype=F64),
            "face_focal_px": torch.full((batch, face_points), 900.0, dtype=F64),
        }

    def near(*shape: int, by: float = 0.03) -> torch.Tensor:
        return by * torch.randn(*shape, generator=g, dtype=F64)

    parts = PartObservations(
        hands_target=at[..., :2] / at[..., 2:] + near(batch, 42, 2),
        hands_weight=torch.rand(batch, 42, generator=g, dtype=F64),
        hands_focal_px=torch.full((batch, 42), 900.0, dtype=F64),
        hands_lift_m=1.2 * at + near(batch, 42, 3),
        hands_lift_weight=torch.rand(batch, 42, generator=g, dtype=F64),
        hands_points_m=at + near(batch, 42, 3),
        hands_points_weight=torch.ones(batch, 42, dtype=F64),
        depth_cm=torch.full((batch, 1), 300.0, dtype=F64),
        **on_face,
    )
    none = torch.zeros(batch, 17, dtype=F64)
    seen = Observations(torch.zeros(batch, 17, 2, dtype=F64), none, none[:, 0] + 1, parts=parts)
    weights = {"reprojection": 0.0, **dict.fromkeys(ON_PARTS, 0.0), name: 1.3}
    stage = StageConfig(pose=0.0, shape=0.0, points=0.0, height=0.0, previous=0.0, weights=weights)
    return StageObjective(whole.terms, stage, seen), x


@pytest.mark.parametrize("name", ON_PARTS)
def test_the_gradient_is_that_of_the_cost(name, tiny, open_x64):
    with_skin = name in FACE or name == "hand_overlap"
    objective, x = objective_of(open_x64, name, 70) if with_skin else objective_of(tiny, name)
    assert list(objective.weights) == [name]
    layout = objective.terms.layout
    if name in ("hand_limits", "hand_overlap"):  # beyond them; fingers among each other
        x = layout.put(x, **{f"{side}_hand_pose": 8 * x[:, layout[f"{side}_hand_pose"]] for side in ("left", "right")})
    every = objective.select(torch.zeros(2 * layout.size, dtype=torch.int64))
    normal, want = objective.reference(x), differences(lambda x: every.reference(x).cost, x)
    if name in (
        "hands",
        "hands_lift",
        "hands_points",
        "hand_overlap",
        "face",
        "openings",
        "gaze",
    ):  # whose betas do not answer
        want[:, layout["betas"]] = 0
    assert want.abs().max() > 0
    torch.testing.assert_close(2 * normal.gradient, want, atol=1e-6 * float(want.abs().max()), rtol=0)
    eigenvalues = torch.linalg.eigvalsh(normal.hessian)
    assert (eigenvalues.amin(1) > -1e-8 * eigenvalues.amax(1)).all()


def in_float32(record):
    """A record of tensors, and of such records, in float32."""
    values = {f.name: getattr(record, f.name) for f in fields(record)}
    changed = {k: v.float() if isinstance(v, torch.Tensor) else v for k, v in values.items()}
    parts = changed.get("parts")
    return replace(record, **changed | ({} if parts is None else {"parts": in_float32(parts)}))


@torch.no_grad()
@pytest.mark.parametrize("offsets", [False, True])
def test_the_loops_are_the_equations(offsets, open_x, open_x64):
    """All residuals together; float32, for each type of loops compiles for a minute."""
    made, x = objective_of(open_x64, "hand_offset" if offsets else "hands", 478)
    fitter = Fitter(model=open_x, layout="coco17")
    whole = WholeBody(fitter.terms, "coco17", fitter.config, 478, offsets=offsets)
    objective = StageObjective(whole.terms, whole.stage, in_float32(made.seen))
    x = x.repeat(3, 1)
    bent = [whole.layout[f"{side}_hand_pose"] for side in ("left", "right")]
    x[1, bent[0]], x[2, bent[1]] = 6 * x[1, bent[0]], 6 * x[2, bent[1]]  # fingers among each other, beyond limits
    objective = objective.select(torch.zeros(3, dtype=torch.int64))
    assert {*HANDS, *FACE} - set(objective.weights) == (set() if offsets else {"hand_offset", "face_offset"})
    weights = dict(objective.weights)
    assert objective.backend(x.float()) == "loops"
    # Where two axes are nearly parallel float32 does not tell which of their points are nearest.
    most = replace(objective)
    most.__dict__["weights"] = {name: weight for name, weight in weights.items() if name != "hand_overlap"}
    agree(most, x.float(), 3e-4)  # sums of 478 points, some of them seen from the side
    for name, weight in weights.items():
        alone = replace(objective)
        alone.__dict__["weights"] = {name: weight}
        got, want = alone.normal(x.float()), alone.reference(x.float())
        torch.testing.assert_close(got.cost, want.cost, rtol=1e-3, atol=1e-6, msg=name)
        size = float(want.gradient.abs().max())
        torch.testing.assert_close(got.gradient, want.gradient, rtol=0, atol=2e-3 * size + 1e-6, msg=name)


def test_hands_by_themselves_are_fitted_by_the_same_equations(open_x):
    """The loop's normal equations are those of the tensors, of left hands and of mirrored right ones."""
    whole = Fitter(model=open_x, layout="openpose25").whole()
    _, points = person(open_x, flexed(70, 0), FLIP * flexed(70, 3))
    seen = []
    for side in range(2):
        at = points[:, side]
        one = HandObservations(
            rest=at - at[:, :1],
            target=at[..., :2] / at[..., 2:] + 0.01,
            weight=torch.linspace(0, 1, 21)[None],
            scale=torch.full((1, 21), 400.0),
            lift_m=1.1 * at + 0.02 * torch.randn(at.shape, generator=generator()),
            lift_weight=torch.linspace(1, 0, 21)[None],
            points_m=at + 0.01,
            points_weight=torch.ones(1, 21),
            wrist=at[:, 0] + 0.02,
            R_forearm=torch.eye(3)[None],
            R_wrist=torch.eye(3)[None],
        )
        seen.append(one.mirrored() if side else one)
    starts = whole.starts
    objective = _HandObjective(HandObservations.cat(seen), starts.mixture, starts.axes, starts.limits)
    x = 0.4 * torch.randn(2, HAND_SIZE, generator=generator())
    x[:, :3] += objective.seen.wrist
    with torch.no_grad():
        got, want = objective.normal(x), objective.reference(x)
    torch.testing.assert_close(got.cost, want.cost, rtol=1e-4, atol=0)
    for a, b in ((got.gradient, want.gradient), (got.hessian, want.hessian)):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-4 * float(b.abs().max()))


def test_the_mirror_image_of_a_hand_has_mirrored_variables():
    rest = 0.1 * torch.randn(1, 21, 3, generator=generator(), dtype=F64)
    x, flip = torch.randn(1, HAND_SIZE, generator=generator(), dtype=F64), torch.tensor([-1.0, 1.0, 1.0], dtype=F64)
    torch.testing.assert_close(pose_hand(flip * rest, mirrored_hands(x)).points, flip * pose_hand(rest, x).points)


def test_fingers_overlap_where_they_cross_and_nowhere_else(open_x):
    """Hands of the prior do not; of a middle finger that is turned into the index finger the two do."""
    overlap, prior = HandOverlap(open_x), load_hand_prior()[0]
    poses = torch.tensor(np.concatenate([prior.relaxed[None], prior.means]), dtype=open_x.dtype)
    crossings = []
    for turn in (1.0, -1.0):  # one of the two ways is towards the index finger
        crossed = poses[:1].clone()
        crossed[:, 9:12] += turn * 0.6 * torch.tensor(prior.axes[3, 1], dtype=open_x.dtype)
        crossings.append(crossed)
    poses = torch.cat([poses, *crossings])
    params = open_x.params(left_hand_pose=poses - open_x.hand_means[0], betas=torch.zeros(len(poses), 10))
    coefficients = open_x.coefficients(params)
    tree = pose_tree(open_x, coefficients, open_x.full_pose(params))
    cost = overlap(overlap.own_points.place(tree, coefficients).positions, params.betas).cost
    assert (cost[: 1 + len(prior.means)] < 1e-3).all()
    assert cost[1 + len(prior.means) :].max() > 0.05


def test_a_hand_by_itself_is_that_of_the_body(tiny):
    """The tree that starts are found with poses fingers as the model does, and has the derivatives."""
    fitter = Fitter(model=tiny, layout="coco17")
    layout, hands = fitter.whole().layout, fitter.whole().terms.setup.hands
    assert hands is not None
    x = some_x(layout)
    tree = pose_tree(tiny, layout.coefficients(x), layout.rotvecs(x))
    still = pose_tree(tiny, layout.coefficients(x), 0 * layout.rotvecs(x))
    rest = hands.place(still, layout.coefficients(x)).positions[:, 21:]
    names = tiny.skeleton
    wrist = names.index("right_wrist")
    turn = torch.as_tensor(bodyfit.geometry.rotation.so3_exp(torch.zeros(3, 3, dtype=F64)))
    assert turn.shape == (3, 3, 3)

    own = torch.cat(
        [tree.joints[:, wrist], roma.rotmat_to_rotvec(tree.R_world[:, wrist]), layout.rotvecs(x)[:, 40:55].flatten(1)],
        1,
    )
    got = pose_hand(rest, own)
    want = torch.stack([tree.joints[:, names.index(f"right_{f}{k}")] for f in ("thumb", "pinky") for k in (1, 2, 3)], 1)
    torch.testing.assert_close(got.points[:, [1, 2, 3, 17, 18, 19]], want)

    def flat(v: torch.Tensor) -> torch.Tensor:
        return pose_hand(rest.expand(len(v), -1, -1), v).points.flatten(1)

    assert own.shape[1] == HAND_SIZE
    torch.testing.assert_close(got.jacobian().flatten(1, 2), differences(flat, own), atol=1e-7, rtol=0)


def person(model: BodyModel, left: np.ndarray, right: np.ndarray, distance_m: float = 2.7) -> tuple:
    """Somebody with these hands (from the flat hand), what is seen of the body and of the hands, and the truth."""
    params = model.params(
        global_orient=torch.tensor([[torch.pi, 0.0, 0.0]]),
        transl=torch.tensor([[0.0, 0.2, distance_m]]),
        body_pose=torch.nn.functional.pad(torch.zeros(1, 45), (0, 18)),
        left_hand_pose=torch.tensor(left[None], dtype=model.dtype) - model.hand_means[:1],
        right_hand_pose=torch.tensor(right[None], dtype=model.dtype) - model.hand_means[1:],
    )
    body, camera = model(**params), Camera.make(1, SIZE, focal_px=FOCAL_PX)
    names = [next(iter(entry)) for side in ("left", "right") for entry in hand_entries(side)]
    points = torch.stack([model.point(body, name) for name in names], 1)
    keypoints = torch.nan_to_num(model.keypoints(params, "openpose25"))

    def seen(at: torch.Tensor) -> torch.Tensor:
        xy = camera.project(at)
        return torch.cat([xy, torch.ones_like(xy[..., :1])], -1)

    evidence = bodyfit.Evidence(
        keypoints=seen(keypoints),
        layout="openpose25",
        image_size=SIZE,
        focal_px=FOCAL_PX,
        hands=seen(points).unflatten(1, (2, 21)),
        hands_lift=points.unflatten(1, (2, 21)),
    )
    return evidence, points.unflatten(1, (2, 21))


def flexed(degrees: float, finger: int) -> np.ndarray:
    """A relaxed left hand with one finger of `index, middle, pinky, ring` bent by so much more."""
    prior = load_hand_prior()[0]
    pose = prior.relaxed.copy()
    for joint in (3 * finger, 3 * finger + 1):
        pose[3 * joint : 3 * joint + 3] += np.radians(degrees / 2) * prior.axes[joint, 0]
    return pose


FLIP = np.tile([1.0, -1.0, -1.0], 15)


@pytest.fixture(scope="module")
def posed(open_x, fitter):
    """One with a bent index finger on the left and a bent ring finger on the right hand, fitted."""
    left, right = flexed(70, 0), FLIP * flexed(70, 3)
    evidence, points = person(open_x, left, right)
    return evidence, points, fitter.fit(evidence), left, right


def points_of(model: BodyModel, result) -> torch.Tensor:
    body = model(**result.params)
    names = [next(iter(entry)) for side in ("left", "right") for entry in hand_entries(side)]
    return torch.stack([model.point(body, name) for name in names], 1).unflatten(1, (2, 21))


def test_fingers_are_found(open_x, posed):
    _, points, result, *_ = posed
    off = points_of(open_x, result) - points
    off = (off - off[:, :, :1]).norm(dim=-1)
    assert off.mean() < 0.006  # of exact points; the priors and the limits of a relaxed hand hold the rest
    pose = (result.params.left_hand_pose[0] + open_x.hand_means[0]).double().numpy()
    bent = np.abs(pose - load_hand_prior()[0].relaxed).reshape(5, 3, 3)[:4].sum((1, 2))
    assert bent.argmax() == 0
    assert result.backend == "loops"
    sd = result.joints_sd_rel_m[0]
    assert sd.shape == (55,)
    assert torch.isfinite(sd).all()
    assert result.observed_joints.shape == (1, 55)


def test_the_mirrored_person_has_mirrored_hands(open_x, fitter, posed):
    evidence, _, result, _, _ = posed
    flip = torch.tensor([-1.0, 1.0, 1.0])
    size = torch.tensor([float(SIZE[0]), 0.0, 0.0])
    rows = mirrored_rows(layout_names("openpose25"))
    mirrored = replace(
        evidence,
        keypoints=(size + flip * evidence.keypoints)[:, rows],
        hands=(size + flip * evidence.hands).flip(1),
        hands_lift=(flip * evidence.hands_lift).flip(1),
    )
    other = fitter.fit(mirrored)
    sign = torch.tensor(FLIP, dtype=torch.float32)
    means = open_x.hand_means
    got = other.params.right_hand_pose + means[1]
    want = sign * (result.params.left_hand_pose + means[0])
    torch.testing.assert_close(got, want, atol=0.02, rtol=0)  # two descents of one valley


def test_hands_that_are_not_seen_or_small_rest(open_x, fitter, posed):
    evidence, _, _, _, _ = posed
    relaxed = load_hand_prior()
    gone = evidence.hands.clone()
    gone[:, 1] = torch.nan
    lift = evidence.hands_lift.clone()
    lift[:, 1] = torch.nan
    result = fitter.fit(replace(evidence, hands=gone, hands_lift=lift))
    pose = result.params.right_hand_pose[0] + open_x.hand_means[1]
    mean = torch.tensor(relaxed[1].relaxed, dtype=torch.float32)
    assert (pose - mean).abs().max() < 0.35  # the nearest component's mean
    assert not result.observed_joints[0, 40:55].any()
    assert result.observed_joints[0, 25:40].all()
    far, _ = person(open_x, flexed(80, 0), FLIP * flexed(80, 0), distance_m=14.0)
    pose = fitter.fit(far).params.left_hand_pose[0] + open_x.hand_means[0]
    assert (pose - torch.tensor(relaxed[0].relaxed, dtype=torch.float32)).abs().max() < 0.35


def test_jaw_gaze_and_expression_are_found(open_x, posed):
    """From 478 exact points of a face at 3 m; a mouth of half that opening is told from it."""
    evidence = posed[0]
    left = torch.tensor([[0.05, 0.2, 0.0]])
    params = open_x.params(
        global_orient=torch.tensor([[torch.pi, 0.0, 0.0]]),
        transl=torch.tensor([[0.0, 0.2, 2.7]]),
        body_pose=torch.nn.functional.pad(torch.zeros(1, 45), (0, 18)),
        jaw_pose=torch.tensor([[0.3, 0.0, 0.0]]),
        leye_pose=left,
        reye_pose=left,
        expression=torch.tensor([[1.0, -1.0, 0.5, *[0.0] * 7]]),
    )
    vertices, camera = open_x(**params).vertices, Camera.make(1, SIZE, focal_px=FOCAL_PX)
    sums = [entry if isinstance(entry, VertexSum) else VertexSum((0,), (1.0,)) for entry in face_entries(open_x, 478)]
    points = torch.stack([vertices[0, list(s.vertices)].mT @ torch.tensor(s.weights) for s in sums])[None]
    xyc = torch.nn.functional.pad(camera.project(points), (0, 1), value=1.0)
    result = bodyfit.fit(replace(evidence, hands=None, hands_lift=None, face=xyc), model=open_x)
    assert abs(float(result.params.jaw_pose[0, 0]) - 0.3) < 0.03
    head = [torch.zeros(1, 10), torch.zeros(1, 3)]
    both = [
        open_x(betas=head[0], jaw_pose=p.jaw_pose, expression=p.expression).vertices for p in (params, result.params)
    ]
    on_face = sorted({v for s in sums for v in s.vertices} - {0})
    assert (both[0] - both[1])[:, on_face].norm(dim=2).mean() < 0.0015
    gaze = [
        pose_tree(open_x, open_x.coefficients(p), open_x.full_pose(p)).R_world[0, 23, :, 2]
        for p in (params, result.params)
    ]
    assert torch.rad2deg((gaze[0] @ gaze[1]).clamp(max=1).acos()) < 6
    assert result.observed_joints[0, 22:25].all()
    assert result.params.left_hand_pose.abs().max() < 0.5


def test_eyes_look_together(fitter):
    """Eyes that turn apart are improbable, eyes that turn together are not."""
    layout = fitter.whole(70).layout
    x = torch.zeros(2, layout.size)
    left, right = layout["leye_pose"].start + 1, layout["reye_pose"].start + 1
    x[:, left], x[0, right], x[1, right] = 0.2, 0.2, -0.2
    prior, stage = fitter.whole(70).terms.residual("jaw_and_eyes"), fitter.whole(70).stage
    seen = Observations(torch.zeros(2, 25, 2), torch.zeros(2, 25), torch.ones(2))
    together, apart = prior.at(layout.unpack(x), seen, stage).cost.tolist()
    assert apart > 20 * together


def test_nobody_elses_body_changes_for_hands(open_x, fitter, posed):
    """A body without hands is fitted as before, beside one with hands, too."""
    evidence = posed[0]
    bare = replace(evidence, hands=None, hands_lift=None)
    alone = fitter.fit(bare)
    assert alone.backend == "loops"
    assert alone.covariance.shape[1] == 3 + 3 + 63 + 10
    assert float(alone.params.left_hand_pose.abs().max()) == 0.0


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"hands": torch.zeros(1, 2, 20, 3)}, ShapeError, "hands must be"),
        ({"hands": torch.full((1, 2, 21, 3), 90.0)}, OptionError, "confidences must lie"),
        ({"hands_lift": torch.zeros(2, 2, 21, 3)}, ShapeError, "hands_lift must be"),
    ],
)
def test_wrong_hands_are_refused(change, error, words, fitter, posed):
    with pytest.raises(error, match=words):
        fitter.fit(replace(posed[0], **change))


def test_a_model_without_fingers_is_refused(posed):
    with pytest.raises(OptionError, match="open-x"):
        bodyfit.fit(posed[0], model=bodyfit.load_model("open"))


def test_keypoints_of_the_whole_body_bring_hands_and_face(open_x, posed):
    """COCO-WholeBody's 133 points: the same hands as given by themselves; settings leave them out."""
    evidence, points, *_ = posed
    whole = torch.zeros(1, 133, 3)
    names, body = layout_names("wholebody133"), layout_names("openpose25")
    for row, name in enumerate(names[:23]):
        if name in body:
            whole[0, row] = evidence.keypoints[0, body.index(name)]
    for i, side in enumerate(("left", "right")):
        first = names.index(f"{side}_wrist_root")
        whole[0, first : first + 21] = evidence.hands[0, i]
    given = replace(evidence, keypoints=whole, layout="wholebody133", hands=None, hands_lift=None)
    result = bodyfit.fit(given, model=open_x)
    off = points_of(open_x, result) - points
    assert (off - off[:, :, :1]).norm(dim=-1).mean() < 0.012  # without a lift
    still = bodyfit.fit(given, model=open_x, config=bodyfit.FitConfig(hands=False))
    assert float((still.params.left_hand_pose).abs().max()) < 0.5
    assert not still.observed_joints[0, 25:].any()
    neither = bodyfit.fit(given, model=open_x, config=bodyfit.FitConfig(hands=False, face=False))
    assert neither.backend == "loops"


def test_mediapipes_points_of_a_hand_become_the_models():
    """A similarity moves both alike, fingertips go outwards along the last bone, the wrist away from the fingers."""
    points = np.random.default_rng(0).standard_normal((2, 21, 3))
    moved = hand_joints_of_mediapipe(points)
    R = roma.random_rotmat(dtype=torch.float64).numpy()
    np.testing.assert_allclose(hand_joints_of_mediapipe(2.5 * points @ R.T + 3.0), 2.5 * moved @ R.T + 3.0)
    for tip in (4, 8, 12, 16, 20):
        np.testing.assert_allclose(moved[:, tip] - points[:, tip], 0.4 * (points[:, tip] - points[:, tip - 1]))
    np.testing.assert_allclose(moved[:, 0] - points[:, 0], 0.1 * (points[:, 0] - points[:, 9]))
    same = [i for i in range(21) if i not in (0, 1, 2, 4, 8, 12, 16, 20)]
    assert (moved[:, same] == points[:, same]).all()


def test_hands_of_mediapipes_layout_alone_are_moved(open_x):
    hand = np.random.default_rng(1).uniform(0, 100, (21, 3)).astype(np.float32)
    for layout, moved in (("mediapipe33", True), ("openpose25", False)):
        body = np.ones((len(layout_names(layout)), 3), np.float32)
        person = Keypoints2D(layout, body, hands={"left": Part(hand)})
        found = part_arrays([person], [500.0], [(100, 100)], open_x)["hands"][0, 0]
        assert (found[:, 2] == hand[:, 2]).all()
        expected = hand_joints_of_mediapipe(hand[:, :2]) if moved else hand[:, :2]
        np.testing.assert_array_equal(found[:, :2], expected)


def test_pictures_bring_what_a_detector_sees(open_x, posed):
    """Hands of a detector go into the fit of a picture, and are left out where they are not wanted."""
    evidence, points, *_ = posed

    class Sees:
        def detect(self, frames):
            hands = {
                side: Part(evidence.hands[0, i].numpy(), evidence.hands_lift[0, i].numpy())
                for i, side in enumerate(("left", "right"))
            }
            return [[Keypoints2D("openpose25", evidence.keypoints[0].numpy(), hands=hands)] for _ in frames]

    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    (result,) = bodyfit.fit_image(picture, model=open_x, detector=Sees(), focal_px=FOCAL_PX)
    off = points_of(open_x, result) - points
    assert (off - off[:, :, :1]).norm(dim=-1).mean() < 0.01
    (bare,) = bodyfit.fit_image(picture, model=open_x, detector=Sees(), focal_px=FOCAL_PX, hands=False, face=False)
    assert bare.backend == "loops"
    with pytest.raises(OptionError, match="open-h"):
        bodyfit.fit_image(picture, detector=Sees(), hands=True)
