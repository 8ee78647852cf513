"""Measuring bodies and making bodies to measure: scaling laws, known solids, independent geometry, round trips."""

from __future__ import annotations

import re
from dataclasses import fields

import numpy as np
import pytest
import torch
import trimesh
from scipy.spatial import ConvexHull
from scipy.special import ellipe

from bodyfit.body.anthropometry.cross_section import hull_perimeters
from bodyfit.body.anthropometry.measure import BODY_DENSITY, Measurements, TapeMeasure, measure
from bodyfit.body.anthropometry.shape_from_measurements import shape_from_measurements
from bodyfit.body.assets import GENDERS
from bodyfit.body.model import BodyModel, load_model
from bodyfit.errors import OptionError, ShapeError
from bodyfit.skeleton import SMPL

F64 = torch.float64
NAMES = [f.name for f in fields(Measurements)]
GIRTHS = ("chest", "waist", "hip", "neck", "upper_arm", "thigh")
SWAPPED = [
    SMPL.index({"left": "right", "right": "left"}.get(n.split("_")[0], n.split("_")[0]) + n[len(n.split("_")[0]) :])
    for n in SMPL.names
]


def table(measured: Measurements) -> torch.Tensor:
    """(B, M), in the order of NAMES."""
    return torch.stack([getattr(measured, name) for name in NAMES], 1)


def people(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, 10, generator=torch.Generator().manual_seed(seed), dtype=F64).clamp(-2.5, 2.5)


@pytest.fixture(scope="module", params=GENDERS)
def model(request) -> BodyModel:
    return load_model("open", gender=request.param, dtype=F64)


@pytest.fixture(scope="module")
def man() -> BodyModel:
    return load_model("open", gender="male", dtype=F64)


@pytest.fixture(scope="module")
def tape(model) -> TapeMeasure:
    return TapeMeasure(model.faces, model.weights, model.skeleton)


# Laws


def test_lengths_scale_and_mass_scales_with_the_cube(model, tape):
    out = model(betas=people(3))
    want, got = table(tape.measure(out.vertices, out.joints)), table(tape.measure(1.3 * out.vertices, 1.3 * out.joints))
    power = torch.tensor([3.0 if name == "mass" else 1.0 for name in NAMES], dtype=F64)
    torch.testing.assert_close(got, want * 1.3**power, rtol=1e-9, atol=0)


def test_where_a_body_stands_does_not_matter(model, tape):
    out = model(betas=people(3))
    there = torch.tensor([3.0, -7.0, 11.0], dtype=F64)
    got = tape.measure(out.vertices + there, out.joints + there)
    torch.testing.assert_close(table(got), table(tape.measure(out.vertices, out.joints)), rtol=1e-9, atol=0)


def test_a_mirrored_body_measures_the_same(man):
    out = man(betas=people(3))
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=F64)
    want = measure(out.vertices, out.joints, man.faces, man.weights)
    got = measure(
        out.vertices * flip, (out.joints * flip)[:, SWAPPED], man.faces.flip(1), man.weights[:, SWAPPED].contiguous()
    )
    torch.testing.assert_close(table(got), table(want), rtol=1e-9, atol=0)


def test_heavier_is_more_around_everywhere(model, tape):
    betas = torch.zeros(9, 10, dtype=F64)
    betas[:, 1] = torch.linspace(-2, 2, 9)
    out = model(betas=betas)
    measured = tape.measure(out.vertices, out.joints)
    for name in ("mass", *GIRTHS):
        assert (getattr(measured, name).diff() > 0).all(), name
    assert (measured.bmi.diff() > 0).all()


def test_a_little_more_shape_is_a_little_more_measure(model, tape):
    """No measurement jumps: along a line of shapes, no step stands out from both its neighbours."""
    start, along = people(2, seed=3)
    out = model(betas=start + torch.linspace(-2, 2, 81, dtype=F64)[:, None] * along / along.norm())
    step = table(tape.measure(out.vertices, out.joints)).diff(dim=0)
    jump = torch.minimum((step[1:-1] - step[:-2]).abs(), (step[1:-1] - step[2:]).abs()).amax(0)
    unit = torch.tensor([0.1 if name == "mass" else 1e-3 for name in NAMES], dtype=F64)
    assert (jump < unit).all(), dict(zip(NAMES, (jump / unit).tolist(), strict=True))


def test_a_batch_is_its_bodies_and_dtype_is_kept(man):
    tape = TapeMeasure(man.faces, man.weights)
    out = man(betas=people(20))  # more than are taken at a time
    together = table(tape.measure(out.vertices, out.joints))
    one = torch.cat([table(tape.measure(out.vertices[i : i + 1], out.joints[i : i + 1])) for i in (0, 7, 19)])
    torch.testing.assert_close(together[[0, 7, 19]], one, rtol=1e-12, atol=0)
    assert tape.measure(out.vertices.float(), out.joints.float()).height.dtype == torch.float32
    assert table(tape.measure(out.vertices[:0], out.joints[:0])).shape == (0, len(NAMES))


def test_the_tree_of_joints_does_not_matter(man):
    """Fingers hang on an arm, jaw and eyes on a head: the same skin measures the same with 24, 52 or 55 joints."""
    want = None
    for name in ("open", "open-h", "open-x"):
        model = load_model(name, gender="male", dtype=F64)
        out = model(betas=people(2))
        got = table(
            measure(man(betas=people(2)).vertices, out.joints, model.faces, model.weights, skeleton=model.skeleton)
        )
        want = got if want is None else want
        torch.testing.assert_close(got, want, rtol=1e-9, atol=0)


# Solids and geometry known otherwise


def tin_man(a: float = 0.2, b: float = 0.1, height: float = 1.8, around: int = 512, rings: int = 61):
    """An upright elliptic cylinder with joints as a body's, and closed tins for arms at the height of its chest."""
    angle = 2 * np.pi * np.arange(around) / around

    def tin(origin, axis, u, v, length, r_u, r_v, rings):
        ring = r_u * np.cos(angle)[:, None] * np.array(u) + r_v * np.sin(angle)[:, None] * np.array(v)
        levels = np.linspace(0, length, rings)[:, None, None] * np.array(axis)
        ends = np.array([np.zeros(3), length * np.array(axis)])
        points = np.concatenate([(levels + ring).reshape(-1, 3), ends]) + origin
        k, nxt = np.arange(around), (np.arange(around) + 1) % around
        faces = [np.stack([k + r * around, nxt + r * around, nxt + (r + 1) * around], 1) for r in range(rings - 1)]
        faces += [np.stack([k + r * around, nxt + (r + 1) * around, k + (r + 1) * around], 1) for r in range(rings - 1)]
        top = (rings - 1) * around
        lids = [np.stack([nxt, k, np.full(around, rings * around)], 1)]
        lids += [np.stack([k + top, nxt + top, np.full(around, rings * around + 1)], 1)]
        return points, np.concatenate(faces + lids)

    trunk = tin((0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 0), height, b, a, rings)
    left = tin((0.3, 1.3, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), 0.5, 0.05, 0.05, 2)
    right = tin((-0.8, 1.3, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), 0.5, 0.05, 0.05, 2)
    start = np.cumsum([0, len(trunk[0]), len(left[0])])
    vertices = np.concatenate([trunk[0], left[0], right[0]])
    faces = np.concatenate([part[1] + at for part, at in zip((trunk, left, right), start, strict=True)])
    joints = np.zeros((24, 3))
    at = {"pelvis": 0.95, "spine1": 1.05, "spine2": 1.2, "spine3": 1.25, "neck": 1.5, "head": 1.6}
    for name, y in at.items():
        joints[SMPL.index(name)] = (0, y, 0)
    for side, sign in (("left", 1), ("right", -1)):
        limb = {"hip": (0.1, 0.9), "knee": (0.1, 0.5), "ankle": (0.1, 0.1), "collar": (0.1, 1.4)}
        limb |= {"shoulder": (0.15, 1.4), "elbow": (0.55, 1.3), "wrist": (0.8, 1.3)}
        for name, (x, y) in limb.items():
            joints[SMPL.index(f"{side}_{name}")] = (sign * x, y, 0)
    x, y = vertices[:, 0], vertices[:, 1]
    weights = np.zeros((len(vertices), 24))
    weights[:, SMPL.index("pelvis")] = y < 1.2
    weights[:, SMPL.index("spine3")] = y >= 1.2
    legs = (np.abs(x) < 0.25) & (y > 0.79) & (y < 1.0)  # so the legs part at the ring of 0.81 m, inside one tin
    for side, sign in (("left", 1), ("right", -1)):
        weights[legs, SMPL.index(f"{side}_hip")] = (0.5 + sign * x / 0.8)[legs]
        weights[sign * x > 0.25, :] = np.eye(24)[SMPL.index(f"{side}_elbow")]
    weights[legs, SMPL.index("pelvis")] = 0
    arrays = vertices[None], joints[None]
    return *(torch.tensor(array, dtype=F64) for array in arrays), torch.tensor(faces), torch.tensor(weights, dtype=F64)


def test_a_tin_man_measures_what_his_formulas_say():
    """512 corners: an inscribed polygon is short of its curve by (pi / 512)^2 / 6, of its area by 4 times as much."""
    vertices, joints, faces, weights = tin_man()
    measured = measure(vertices, joints, faces, weights)
    girth = 4 * 0.2 * ellipe(1 - 0.25)
    volume = np.pi * 0.2 * 0.1 * 1.8 + 2 * np.pi * 0.05**2 * 0.5
    for name in ("chest", "waist", "hip"):
        assert float(getattr(measured, name)) == pytest.approx(girth, rel=5e-5), name  # the arms are not in it
    assert float(measured.mass) == pytest.approx(BODY_DENSITY * volume, rel=1e-4)
    assert float(measured.height) == pytest.approx(1.8, abs=1e-12)
    assert float(measured.inseam) == pytest.approx(0.81, abs=1e-9)
    assert float(measured.leg_length) == pytest.approx(0.8, abs=1e-12)
    assert float(measured.bmi) == pytest.approx(float(measured.mass) / 1.8**2)
    heavy = measure(vertices, joints, faces, weights, density=1970.0)
    assert float(heavy.mass) == pytest.approx(2 * float(measured.mass))
    assert float(heavy.waist) == float(measured.waist)


def test_trimesh_finds_the_same_sections_and_volume(model, tape):
    out = model(betas=people(2, seed=5))
    measured = tape.measure(out.vertices, out.joints)
    for k in range(2):
        mesh = trimesh.Trimesh(out.vertices[k].numpy(), model.faces.numpy(), process=False)
        joint = {name: out.joints[k, model.skeleton.index(name)].numpy() for name in model.skeleton.names}
        assert float(measured.mass[k]) == pytest.approx(BODY_DENSITY * mesh.volume, rel=1e-9)
        assert float(measured.height[k]) == pytest.approx(mesh.extents[1], rel=1e-12)
        waist = mesh.section((0, 1, 0), joint["spine1"]).vertices[:, [0, 2]]
        assert float(measured.waist[k]) == pytest.approx(ConvexHull(waist).area, rel=1e-9)
        arms = []
        for side in ("left", "right"):
            shoulder, elbow = joint[f"{side}_shoulder"], joint[f"{side}_elbow"]
            along = (elbow - shoulder) / np.linalg.norm(elbow - shoulder)
            to_plane = trimesh.geometry.plane_transform((shoulder + elbow) / 2, along)
            section = mesh.section(along, (shoulder + elbow) / 2).vertices
            arms.append(ConvexHull(trimesh.transform_points(section, to_plane)[:, :2]).area)
        assert float(measured.upper_arm[k]) == pytest.approx(np.mean(arms), rel=1e-9)


def test_eyeballs_and_holes_hardly_weigh(man):
    """An open mesh has a volume all the same: its holes are covered, so it does not depend on the origin."""
    out = man()
    whole = measure(out.vertices, out.joints, man.faces, man.weights)
    pieces = trimesh.graph.connected_components(man.faces.numpy()[:, [0, 1, 1, 2]].reshape(-1, 2))
    body = max(pieces, key=len)
    kept = torch.from_numpy(np.isin(man.faces[:, 0].numpy(), body))
    assert 0 < (~kept).sum() < 1000
    blind = measure(out.vertices, out.joints, man.faces[kept], man.weights)
    assert float(blind.mass) == pytest.approx(float(whole.mass), rel=3e-3)
    neck = out.vertices[0, :, 1] > out.joints[0, SMPL.index("head"), 1] + 0.08
    holed = man.faces[~neck[man.faces].any(1)]
    here = measure(out.vertices, out.joints, holed, man.weights)
    there = measure(out.vertices + 5.0, out.joints + 5.0, holed, man.weights)
    assert 0.93 * float(whole.mass) < float(here.mass) < 0.99 * float(whole.mass)
    assert float(there.mass) == pytest.approx(float(here.mass), rel=1e-9)


def test_hulls_are_scipys():
    rng = np.random.default_rng(0)
    sets = [rng.standard_normal((n, 2)) for n in (3, 5, 40, 400)]
    sets.append(np.concatenate([sets[2]] * 2))  # every point twice
    sets.append(np.stack(np.meshgrid(np.arange(5.0), np.arange(4.0)), -1).reshape(-1, 2))  # many on one line
    sets.append(np.concatenate([sets[3] - (9, 0), sets[3] + (9, 0)]))  # two thighs
    number = np.repeat(np.arange(len(sets)), [len(s) for s in sets])
    got = hull_perimeters(number, np.concatenate(sets), len(sets) + 1)
    np.testing.assert_allclose(got[:-1], [ConvexHull(s).area for s in sets], rtol=1e-12)
    assert np.isnan(got[-1])  # a set without points
    line = np.arange(4.0)[:, None] * (1, 1)
    assert np.isnan(hull_perimeters(np.zeros(4, np.int64), line, 1)).all()


# Bodies to measure


@pytest.mark.parametrize(
    "names",
    [
        ("height",),
        ("height", "mass"),
        ("mass", "waist"),
        ("height", "chest", "waist", "hip"),
        ("height", "mass", "arm_length", "inseam", "neck"),
        ("thigh", "upper_arm", "leg_length"),
    ],
)
def test_the_body_has_the_measurements_asked_for(model, tape, names):
    out = model(betas=people(1, seed=11))
    own = tape.measure(out.vertices, out.joints)
    betas = shape_from_measurements(model, **{name: float(getattr(own, name)) for name in names})
    assert betas.shape == (1, 10)
    assert betas.dtype == F64
    out = model(betas=betas)
    measured = tape.measure(out.vertices, out.joints)
    for name in names:  # far within the promise of 1 mm and 0.1 kg, which is for bodies where a girth has a kink
        bound = 0.01 if name == "mass" else 1e-4
        assert float(getattr(measured, name)) == pytest.approx(float(getattr(own, name)), abs=bound), name


def test_no_likelier_body_has_the_same_measurements(man):
    """Of bodies measured, the answer is never farther from the mean than the body itself; and it lies in the span of
    the measurements' gradients, so no neighbour with the same measurements is nearer."""
    tape = TapeMeasure(man.faces, man.weights)
    own = people(3, seed=7)
    out = man(betas=own)
    measured = tape.measure(out.vertices, out.joints)
    names = ("height", "mass", "waist", "leg_length")
    got = shape_from_measurements(man, **{name: getattr(measured, name) for name in names})
    assert (got.norm(dim=1) < own.norm(dim=1)).all()
    step = 1e-3
    for betas in got:
        nudged = man(
            betas=torch.cat([betas + step * torch.eye(10, dtype=F64), betas - step * torch.eye(10, dtype=F64)])
        )
        values = torch.from_numpy(tape.values(names, nudged.vertices, nudged.joints))
        slope = ((values[:10] - values[10:]) / (2 * step)).T
        off = betas - torch.linalg.pinv(slope) @ (slope @ betas)
        assert float(off.norm()) < 0.02 * max(1.0, float(betas.norm()))  # betas are found to 1e-3, slopes over 0.05


def test_the_mean_bodys_measurements_give_the_mean_body(man):
    out = man()
    measured = measure(out.vertices, out.joints, man.faces, man.weights)
    betas = shape_from_measurements(man, **{name: float(getattr(measured, name)) for name in ("height", "mass", "hip")})
    assert float(betas.abs().max()) < 2e-3


def test_batches_broadcast(man):
    heights = [1.7, 1.8, 1.9]
    got = shape_from_measurements(man, height=heights, mass=torch.tensor(80.0))
    one = torch.cat([shape_from_measurements(man, height=h, mass=80.0) for h in heights])
    torch.testing.assert_close(got, one, rtol=0, atol=1e-6)
    assert shape_from_measurements(man, height=[]).shape == (0, 10)


@pytest.mark.parametrize(
    ("wanted", "error", "says"),
    [
        ({"height": 180}, OptionError, "height is in metres; 180 looks like centimetres; give 1.80"),
        ({"height": 1800}, OptionError, "1800 looks like millimetres; give 1.80"),
        ({"height": 5.9}, OptionError, "looks like feet; give 1.80"),
        ({"waist": 85.0}, OptionError, "waist is in metres; 85 looks like centimetres; give 0.85"),
        ({"mass": 75000}, OptionError, "mass is in kilograms; 75000 looks like grams; give 75"),
        ({"height": -1.8}, OptionError, "height must be a positive number of metres"),
        ({"height": 1.8, "mass": 0}, OptionError, "mass must be a positive"),
        ({"hip": float("nan")}, OptionError, "hip must be a positive number of metres, got nan"),
        ({"hip": [1.0, float("inf")]}, OptionError, "hip must be a positive"),
        ({}, OptionError, "give at least one measurement: height, mass"),
        ({"height": [1.7, 1.8], "mass": [70.0, 75.0, 80.0]}, ShapeError, "height 2, mass 3"),
        ({"height": torch.ones(2, 2)}, ShapeError, "height must be a number or"),
        ({"height": 1.8, "max_sd": 0.0}, OptionError, "max_sd must be positive"),
        ({"height": 1.8, "density": -1.0}, OptionError, "density must be positive"),
    ],
)
def test_a_slip_is_named(man, wanted, error, says):
    with pytest.raises(error, match=re.escape(says)):
        shape_from_measurements(man, **wanted)


def test_what_no_body_has_is_refused_with_what_bodies_have(man):
    with pytest.raises(
        OptionError, match=r"no believable body has height=2\.600 m; this model reaches height="
    ) as caught:
        shape_from_measurements(man, height=2.6)
    low, high = (float(x) for x in re.findall(r"(\d\.\d{3}) m", str(caught.value))[1:])
    assert 1.3 < low < 1.6 < 1.95 < high < 2.2
    shape_from_measurements(man, height=[low + 0.002, high - 0.002])
    with pytest.raises(OptionError, match=r"\(body 1\)"):
        shape_from_measurements(man, height=[1.8, high + 0.002])
    assert shape_from_measurements(man, height=high + 0.002, max_sd=6.0).norm() > 5
    with pytest.raises(OptionError, match=r"with height=1\.750 m this model reaches inseam=0\.\d+ m to 0\.\d+ m"):
        shape_from_measurements(man, height=1.75, inseam=0.5)


def test_only_whole_bodies_are_measured(man):
    from bodyfit.skeleton import MANO

    hand = MANO["left"]
    with pytest.raises(OptionError, match="only whole bodies"):
        TapeMeasure(man.faces, man.weights[:, : len(hand.names)], hand)
    with pytest.raises(ShapeError, match="weights must be"):
        TapeMeasure(man.faces, man.weights[:, :20])
