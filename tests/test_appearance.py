"""Dressed bodies: pieces follow the body they are bound to, and are drawn as textured, partly transparent surfaces."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from gltf_reader import Gltf
from PIL import Image
from scipy.spatial import KDTree

from bodyfit.appearance import DressedPerson, Dye, Outfit, Surface, dress, random_outfits
from bodyfit.appearance.catalogue import KINDS, catalogue, picture, piece_arrays, pieces, skins
from bodyfit.appearance.colors import piece_texture, skin_texture
from bodyfit.appearance.combined import dressed_model
from bodyfit.body.files.archive import asset_path
from bodyfit.body.model import load_model
from bodyfit.body.sample import random_bodies
from bodyfit.errors import OptionError
from bodyfit.fields.casting import canonical_body, pose_bodies
from bodyfit.fields.casting.warp import warped
from bodyfit.geometry.camera import Camera
from bodyfit.geometry.rotation import so3_exp
from bodyfit.io.export.formats import export
from bodyfit.render.color import to_linear
from bodyfit.render.dressed import DressedPicture, render_dressed
from bodyfit.render.environment import EnvironmentLight

CASUAL = Outfit(upper="tee_women", lower="jeans_women", shoes="shoes06", hair="short03")


@pytest.fixture(scope="module")
def woman():
    return load_model("open-x", gender="female")


@pytest.fixture(scope="module")
def bodies(woman):
    return random_bodies(3, model=woman, seed=4)


def of_kind(person: DressedPerson, kind: str) -> Surface:
    return next(one for one in person.pieces if one.kind == kind)


def test_everything_in_the_catalogue_can_be_read_and_fits_the_body():
    for kind in KINDS:
        for name in pieces(kind):
            piece = piece_arrays(name)
            assert piece.template.shape == (3, len(piece.weights), 3)
            np.testing.assert_allclose(piece.weights.sum(1), 1)
            assert piece.faces.max() < len(piece.weights)
            assert piece.uv_faces.max() < len(piece.uv)
            if kind not in ("hat", "eyes"):
                assert picture(name).shape[2] == (4 if catalogue()["pieces"][name]["alpha"] else 3)
    assert len(skins("male")) == len(skins("female")) == 10
    assert sum(path.stat().st_size for path in asset_path("appearance").iterdir()) < 20e6


def test_clothes_turn_and_move_with_the_body(woman, bodies):
    turn, step = torch.tensor([0.4, -1.1, 0.3]), torch.tensor([0.2, -0.4, 3.0])
    here = dress(bodies, model=woman, outfit=CASUAL)[1]
    there_params = woman.params(**{**bodies, "global_orient": turn.expand(3, 3), "transl": step.expand(3, 3)})
    there = dress(there_params, model=woman, outfit=CASUAL)[1]
    root = woman(**bodies).joints[1, 0]
    R = so3_exp(turn[None])[0]
    for a, b in zip(here.surfaces(), there.surfaces(), strict=True):
        assert torch.allclose((a.vertices - root) @ R.T + root + step, b.vertices, atol=2e-5), a.name


def test_layouts_share_clothes():
    """With the hands at rest the three trees move a shirt, trousers and shoes alike."""
    pose = torch.zeros(1, 23, 3)
    for joint, bend in ((0, 0.5), (3, 0.8), (11, -0.3), (15, 0.9), (17, 0.7)):
        pose[0, joint, joint % 3] = bend
    betas = torch.tensor([[1.0, -2.0, 0.5]])
    worn = []
    for name in ("open", "open-h", "open-x"):
        model = load_model(name, flat_hand_mean=True)
        params = model.params(betas=betas, body_pose=pose[:, : model.body_joints - 1])
        worn.append(dress(params, model=model, outfit=CASUAL)[0])
    for kind in ("upper", "lower", "shoes"):
        a, b, c = (of_kind(person, kind).vertices for person in worn)
        assert torch.allclose(a, c, atol=1e-5)
        assert torch.allclose(b, c, atol=1e-5)


@pytest.mark.parametrize("betas", [[2.5, 0.0], [-2.0, 2.5], [0.0, -2.0]])
def test_clothes_fit_people_of_all_sizes(woman, betas):
    """A shirt's distance from the skin is the same on large and small people, within a centimetre."""

    def off_skin(values: list[float]) -> np.ndarray:
        params = woman.params(betas=torch.tensor([values]))
        shirt = of_kind(dress(params, model=woman, outfit=CASUAL)[0], "upper")
        return KDTree(woman(**params).vertices[0].numpy()).query(shirt.vertices.numpy())[0]

    usual = off_skin([0.0, 0.0])
    assert usual.max() < 0.06
    assert np.abs(off_skin(betas) - usual).mean() < 0.01


@pytest.mark.parametrize(
    ("piece", "most_m"),
    [
        *((name, 0.002) for name in ("shoes01", "shoes02", "shoes03", "fedora")),
        *(("short01", 0.004), ("jeans_men", 0.006), ("suit_trousers", 0.006), ("jacket", 0.012), ("tee_women", 0.012)),
    ],
)
@pytest.mark.parametrize("kind", ["open", "open-x"])
def test_pieces_follow_their_part_of_the_body(kind, piece, most_m):
    """Brought back to the canonical body by the skin that is nearest at rest, pieces lie where they lay in any pose.

    Mean distance of 95 % of the vertices from their mean place; shoes that went with the shins were apart by 25 mm.
    """
    model = load_model(kind)
    bodies = random_bodies(6, model=model, seed=4, pose="mocap-like")
    bodies = model.params(**dict(bodies) | {"betas": bodies.betas[:1].expand(6, -1)})
    canonical = canonical_body(model, bodies.betas[:1])
    nearest = KDTree(model.v_template.numpy()).query(piece_arrays(piece).template[0])[1]
    worn = {"upper": "tee_men", "lower": "jeans_men", catalogue()["pieces"][piece]["kind"]: piece}
    dressed = dress(bodies, model=model, outfit=Outfit(**worn))
    places = np.stack(
        [
            warped(body, next(s for s in person.pieces if s.name == piece).vertices.double().numpy(), nearest)
            for body, person in zip(pose_bodies(canonical, model, bodies), dressed, strict=True)
        ]
    )
    apart = np.linalg.norm(places - places.mean(0), axis=2).mean(0)
    assert np.percentile(apart, 95) < most_m


def test_one_model_of_all_pieces_poses_them_as_the_pieces_are_posed_one_by_one(woman, bodies):
    params = woman.params(**{**bodies, "expression": torch.full((3, 3), 1.5)})
    combined = dressed_model(woman, CASUAL)
    assert [part.name for part in combined.parts] == [
        s.name for s in dress(params, model=woman, outfit=CASUAL)[0].surfaces()
    ]
    posed = combined.model(**params).vertices
    for i, person in enumerate(dress(params, model=woman, outfit=CASUAL)):
        apart = torch.cat([one.vertices for one in person.surfaces()])
        assert torch.allclose(apart, posed[i], atol=1e-5)


def test_brows_go_with_the_expression_and_eyes_with_the_gaze(woman):
    rest = woman.params()
    brow, ball = (of_kind(dress(rest, model=woman, outfit=CASUAL)[0], kind).vertices for kind in ("brows", "eyes"))
    expression = torch.zeros(1, woman.num_expression_coeffs)
    expression[0, :4] = 2.0
    raised = woman.params(expression=expression)
    skin = (woman(**raised).vertices - woman(**rest).vertices)[0]
    moved = of_kind(dress(raised, model=woman, outfit=CASUAL)[0], "brows").vertices - brow
    near = KDTree(woman.v_template.numpy()).query(brow.numpy())[1]
    assert moved.norm(dim=1).max() > 1e-3
    assert (moved - skin[near]).norm(dim=1).max() < 2e-3
    looking = dress(woman.params(leye_pose=torch.tensor([[0.0, 0.4, 0.0]])), model=woman, outfit=CASUAL)[0]
    turned = (of_kind(looking, "eyes").vertices - ball).norm(dim=1)
    assert turned[ball[:, 0] > 0].max() > 4e-3
    assert turned[ball[:, 0] < 0].max() < 1e-6


def test_covered_skin_and_the_bodys_own_eyeballs_are_not_drawn(woman):
    bare = Outfit(brows=None, lashes=None)
    skin = dress(woman.params(), model=woman, outfit=bare)[0].skin
    eyeballs = np.flatnonzero(piece_arrays("eyes").hidden)
    assert len(eyeballs) > 100
    assert not np.isin(skin.faces, eyeballs).all(1).any()
    dressed = dress(woman.params(), model=woman, outfit=CASUAL)[0].skin
    assert len(dressed.faces) < 0.75 * len(skin.faces)
    assert len(dressed.uv_faces) == len(dressed.faces)


@pytest.mark.parametrize("bend", [0.8, 1.4, 1.8])
def test_a_skirt_covers_a_raised_thigh(woman, bend):
    """The thigh's skin under the skirt's middle is inside: no vertex of it lies above the cloth's outer side."""
    pose = torch.zeros(1, woman.body_joints - 1, 3)
    pose[0, woman.skeleton.index("left_hip") - 1, 0] = -bend
    outfit = Outfit(upper="blouse", lower="skirt")
    params = woman.params(body_pose=pose)
    skirt = of_kind(dress(params, model=woman, outfit=outfit)[0], "lower")
    skin = woman(**params).vertices[0].numpy()
    rest = woman.v_template.numpy()
    thigh = np.flatnonzero((rest[:, 0] > 0.05) & (rest[:, 0] < 0.16) & (np.abs(rest[:, 1] + 0.42) < 0.06))
    nearest = KDTree(skin).query(skirt.vertices.numpy())
    assert np.isfinite(nearest[0]).all()
    lengths = np.linalg.norm(np.diff(skirt.vertices.numpy()[skirt.faces[:, [0, 1, 2, 0]]], axis=1), axis=2)
    at_rest = of_kind(dress(woman.params(), model=woman, outfit=outfit)[0], "lower").vertices.numpy()
    before = np.linalg.norm(np.diff(at_rest[skirt.faces[:, [0, 1, 2, 0]]], axis=1), axis=2)
    assert (lengths / before).max() < 6  # cloth between the legs gives; it does not tear into needles
    above = skin[thigh, 2].max()  # the front of the raised thigh
    assert skirt.vertices[:, 2].max() > above


def test_outfits_are_drawn_one_by_one():
    many, few = random_outfits(24, 3), random_outfits(5, 3)
    assert many[:5] == few
    assert random_outfits(24, 3) == many
    assert random_outfits(5, 4) != few
    assert len({outfit.skin for outfit in many}) > 8
    assert len({(outfit.upper, outfit.lower) for outfit in many}) > 10
    for gender, other in (("male", "female"), ("female", "male")):
        for outfit in random_outfits(12, 0, gender=gender):
            assert other not in outfit.skin.split("_")
    with pytest.raises(OptionError, match="gender must be one of"):
        random_outfits(1, gender="women")


def test_nobody_wears_a_jacket_over_bare_legs():
    outfits = [one for gender in ("male", "female") for one in random_outfits(150, 1, gender=gender)]
    formal = [one for one in outfits if one.upper in ("jacket", "vest_and_shirt")]
    assert len(formal) > 10
    assert not any(one.lower in ("shorts", "sports_trousers") for one in formal)


def test_outfits_from_words():
    changed = CASUAL.changed("upper=jacket, hair=none, upper.color=#336699, upper.pattern=checks, skin_tone=-5")
    assert (changed.upper, changed.lower, changed.hair) == ("jacket", "jeans_women", None)
    assert changed.dyes["upper"] == Dye((0.2, 0.4, 0.6), "checks")
    assert changed.skin_tone == -5
    whole = CASUAL.changed("whole=work_clothes")
    assert (whole.upper, whole.lower) == (None, None)
    assert whole.changed("lower=skirt").whole is None
    assert CASUAL.changed("") == CASUAL
    for text, words in (
        ("upper", "name=value"),
        ("upper=cape", "upper must be one of"),
        ("shirt=jacket", "an outfit has no 'shirt'"),
        ("upper.color=blue", "as #rrggbb"),
        ("upper.hue=3", "a dye has"),
        ("cape.color=#000000", "dyes are for"),
        ("skin_tone=dark", "must be a number"),
        ("whole=work_clothes, upper=jacket", "either"),
    ):
        with pytest.raises(OptionError, match=words):
            CASUAL.changed(text)


def test_what_does_not_fit_is_refused(woman, bodies, tiny):
    with pytest.raises(OptionError, match="clothes fit the open bodies"):
        dress(tiny.params(), model=tiny)
    with pytest.raises(OptionError, match="one for each of the 3 bodies, got 2"):
        dress(bodies, model=woman, outfit=[CASUAL, CASUAL])
    with pytest.raises(OptionError, match="there is no skin"):
        Outfit(skin="green")


def test_dyes_keep_transparency_and_give_their_colour():
    color = (0.2, 0.5, 0.3)
    dyed = piece_texture("upper", "tee_men", Outfit(upper="tee_men", dyes={"upper": Dye(color)}))
    np.testing.assert_allclose(np.median(dyed.reshape(-1, 3), 0) / 255, color, atol=0.03)
    hair = piece_texture("hair", "bob02", Outfit(hair="bob02", hair_color=(0.4, 0.3, 0.2)))
    np.testing.assert_array_equal(hair[..., 3], picture("bob02")[..., 3])
    name = skins("female", "young")[0]
    usual, lighter, darker = (float(np.median(skin_texture(name, tone)[..., 1])) for tone in (0, 10, -10))
    assert lighter - usual == pytest.approx(25.5, abs=2)
    assert usual - darker == pytest.approx(25.5, abs=2)


def quad(kind: str, depth: float, texture: np.ndarray, *, half: float = 0.5, slant: float = 0.0) -> Surface:
    """A square before the camera, facing it; slant: how much deeper its right side is."""
    x = np.array([-half, half, half, -half])
    z = depth + np.array([0.0, slant, slant, 0.0])
    corners = torch.tensor(
        np.stack([x * z, [half * d for d in z] * np.array([1, 1, -1, -1]), z], 1), dtype=torch.float32
    )
    faces = np.array([[0, 3, 1], [1, 3, 2]])
    uv = np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    return Surface(kind, kind, corners, faces, uv, faces, texture)


def plain_picture(*levels: int) -> np.ndarray:
    return np.full((4, 4, len(levels)), levels, np.uint8)


def test_transparent_surfaces_are_blended_in_linear_light():
    camera = Camera.make(1, (32, 32), focal_px=40.0)
    behind, before = plain_picture(200, 40, 90), plain_picture(30, 220, 120, 102)
    solid = DressedPerson(quad("skin", 2.0, behind), (), CASUAL)
    alone = render_dressed([solid], camera, shadows=False)
    cover = DressedPerson(quad("skin", 1.5, before[..., :3]), (), CASUAL)
    covered = render_dressed([cover], camera, shadows=False)
    both = render_dressed([DressedPerson(solid.skin, (quad("lashes", 1.5, before),), CASUAL)], camera, shadows=False)
    assert alone is not None
    assert covered is not None
    assert both is not None
    centre = (slice(12, 20), slice(12, 20))
    a, b, c = (to_linear(one.rgba[..., :3])[centre] for one in (alone, covered, both))
    # The front quad's highlight is its kind's, so compare the channel that the highlight hardly touches.
    np.testing.assert_allclose(c[..., 1], 0.4 * b[..., 1] + 0.6 * a[..., 1], atol=0.03)
    assert (both.depth_m[centre] == pytest.approx(2.0, abs=1e-4)) or (both.surface[centre] == 0).all()
    # What is behind something opaque does not count.
    hidden = render_dressed([DressedPerson(solid.skin, (quad("lashes", 2.5, before),), CASUAL)], camera, shadows=False)
    assert hidden is not None
    np.testing.assert_array_equal(hidden.rgba[centre], alone.rgba[centre])


def test_textures_are_right_in_perspective():
    """On a slanted square the texture's middle is seen where its depth says, not in the middle of the picture."""
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    camera = Camera.make(1, (200, 40), focal_px=100.0)
    drawn = render_dressed([DressedPerson(quad("skin", 1.0, ramp, slant=3.0), (), CASUAL)], camera, shadows=False)
    assert drawn is not None
    row, x0 = 20 - drawn.corner_px[1], drawn.corner_px[0]
    columns = np.arange(60, 140)
    depth = drawn.depth_m[row, columns - x0]
    share = (depth - 1.0) / 3.0  # depth is linear over the square, as texture coordinates are
    s = (columns + 0.5 - 50) / 100  # the square's part of the picture
    np.testing.assert_allclose(share, s * 1.0 / (4.0 * (1 - s) + s), atol=2e-3)
    byte = to_linear(share * 255 / 255)
    light = to_linear(drawn.rgba[row, columns - x0, 0]) / byte
    assert light.std() / light.mean() < 0.08


def test_maps_say_who_and_what_is_seen(woman, bodies):
    R = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    people = [
        p.turned(R, torch.tensor([x, -0.3, 3.0]))
        for p, x in zip(dress(bodies, model=woman, seed=2), (-0.5, 0.4, 9.0), strict=True)
    ]
    camera = Camera.make(1, (160, 128), focal_px=150.0)
    drawn = render_dressed(people, camera)
    assert drawn is not None
    assert set(np.unique(drawn.person)) == {-1, 0, 1}
    shown = drawn.person >= 0
    np.testing.assert_array_equal(shown, drawn.face >= 0)
    np.testing.assert_array_equal(shown, np.isfinite(drawn.depth_m))
    assert {drawn.surfaces[k][1] for k in np.unique(drawn.surface[shown])} >= {"skin", "shoes", "hair"}
    for y, x in np.argwhere(shown)[:: shown.sum() // 60]:
        who, kind, name = drawn.surfaces[drawn.surface[y, x]]
        one = next(s for s in people[who].surfaces() if (s.kind, s.name) == (kind, name))
        corners = one.vertices[one.faces[drawn.face[y, x]]]
        low, high = float(corners[:, 2].min()), float(corners[:, 2].max())
        assert low - 0.012 <= drawn.depth_m[y, x] <= high + 0.012  # blended faces keep the depth they are sorted by
    assert render_dressed([people[2]], camera) is None
    with pytest.raises(OptionError, match="one camera"):
        render_dressed(people, Camera.make(2, (160, 128)))


def test_people_at_the_same_place_are_drawn_the_same_whoever_else_is_there(woman, bodies):
    R = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    left, right = (
        p.turned(R, torch.tensor([x, -0.3, 4.0]))
        for p, x in zip(dress(bodies, model=woman)[:2], (-0.8, 0.8), strict=True)
    )
    camera = Camera.make(1, (128, 96), focal_px=110.0)
    alone, both = (render_dressed(people, camera, shadows=False) for people in ([left], [left, right]))
    assert alone is not None
    assert both is not None
    (x, y), (x2, y2) = alone.corner_px, both.corner_px
    h, w = alone.person.shape
    part = (slice(y - y2, y - y2 + h), slice(x - x2, x - x2 + w))
    mine = both.person[part] == 0
    assert mine.sum() > 300
    np.testing.assert_allclose(both.rgba[part][mine], alone.rgba[mine], atol=0.02)


@pytest.mark.parametrize("lit", [None, EnvironmentLight(np.eye(9, 3), np.array([0.6, -0.8, 0]), np.ones(3))])
def test_pictures_too_large_to_remember_are_the_same(woman, bodies, monkeypatch, lit):
    """Where it is remembered what is seen, nothing else gets light and texels; it makes no difference."""
    people = [dress(bodies.select([i]), model=woman, outfit=CASUAL)[0] for i in range(2)]
    people = [
        one.turned(torch.diag(torch.tensor([1.0, -1, -1])), torch.tensor([i, 0.6, 2.5])) for i, one in enumerate(people)
    ]
    camera = Camera.make(1, (128, 128), focal_px=150.0)
    ground = (
        np.stack(np.meshgrid(np.linspace(-1, 1, 9), [1.5], np.linspace(1, 4, 9)), -1).reshape(-1, 3).astype(np.float32)
    )

    def drawn() -> DressedPicture:
        picture = render_dressed(people, camera, light=lit, ground=ground, up=np.array([0, -1, 0], np.float32))
        assert picture is not None
        return picture

    few = drawn()
    monkeypatch.setattr("bodyfit.render.dressed._REMEMBERED", 0)
    whole = drawn()
    for name in ("rgba", "person", "surface", "face", "depth_m"):
        np.testing.assert_allclose(getattr(few, name), getattr(whole, name), atol=1e-6, err_msg=name)
    assert (few.ground is None) == (whole.ground is None) == (lit is None)
    if few.ground is not None and whole.ground is not None:
        np.testing.assert_array_equal(few.ground.key, whole.ground.key)


def test_a_dressed_body_as_glb(woman, bodies, tmp_path):
    one = bodies.select([0])
    path = export(one, tmp_path / "person.glb", model=woman, outfit=CASUAL)
    file = Gltf(path)
    want = torch.cat([s.vertices for s in dress(one, model=woman, outfit=CASUAL)[0].surfaces()]).numpy()
    vertices, _ = file.posed()
    assert np.abs(vertices[: len(want)] - want).max() < 1e-4
    kinds = [material["name"].split()[0] for material in file.json["materials"]]
    assert kinds == ["skin", "eyes", "brows", "lashes", "shoes", "lower", "upper", "hair"]
    assert len(file.json["meshes"][0]["primitives"]) == len(kinds)
    data = path.read_bytes()
    start = len(data) - file.json["buffers"][0]["byteLength"]
    for image in file.json["images"]:
        view = file.json["bufferViews"][image["bufferView"]]
        content = data[start + view["byteOffset"] : start + view["byteOffset"] + view["byteLength"]]
        with Image.open(io.BytesIO(content)) as read:
            assert read.format == image["mimeType"].split("/")[1].upper()
    with pytest.raises(OptionError, match=r"clothes are for \.glb"):
        export(one, tmp_path / "person.obj", model=woman, outfit=CASUAL)


def test_hair_is_left_out_under_a_hat_and_below_it_stays(woman):
    hatless, hatted = (
        of_kind(dress(woman.params(), model=woman, outfit=Outfit(hair="long01", hat=hat))[0], "hair")
        for hat in (None, "fedora")
    )
    hat = of_kind(dress(woman.params(), model=woman, outfit=Outfit(hat="fedora"))[0], "hat")
    heights = [one.vertices[one.faces].mean(1)[:, 1] for one in (hatless, hatted)]
    assert heights[1].max() < hat.vertices[:, 1].max() - 0.04 < heights[0].max()
    assert (heights[1] < 0.3).sum() == (heights[0] < 0.3).sum()
    assert len(hatted.uv_faces) == len(hatted.faces)


def test_a_body_is_dressed_on_the_command_line(tmp_path, capsys):
    from bodyfit.cli.main import main

    path = tmp_path / "person.glb"
    words = [
        "convert",
        "open-x",
        str(path),
        "--dress",
        "--seed",
        "1",
        "--outfit",
        "upper=tee_men, lower=jeans_men, hair=none",
    ]
    assert main(words) == 0
    names = [material["name"] for material in Gltf(path).json["materials"]]
    assert "upper tee_men" in names
    assert not any(name.startswith("hair") for name in names)
    assert main(["convert", "open-x", str(tmp_path / "other.glb"), "--outfit", "upper=tee_men"]) == 2
    assert "--outfit: not for this conversion, it is for --dress" in capsys.readouterr().err
    assert main(["convert", "open-x", str(tmp_path / "other.glb"), "--dress", "--outfit", "upper=cape"]) == 2
    assert not (tmp_path / "other.glb").exists()
