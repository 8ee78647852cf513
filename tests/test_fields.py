"""Compositional fields: laws of the operator, of scenes, and of training."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.errors import AssetError, OptionError, ShapeError
from bodyfit.fields.compositional import (
    BodyField,
    FieldCamera,
    FieldNetwork,
    FieldScene,
    FieldSet,
    NetworkConfig,
    composite,
    draw_fields,
    fit_codes,
    load_fields,
    save_fields,
)
from bodyfit.fields.compositional.atlas import surface_atlas
from bodyfit.fields.compositional.losses import picture_loss
from bodyfit.raster.depth import depth_map
from bodyfit.scenes import SceneConfig, draw_scene, sample_scene, write_scenes
from bodyfit.scenes.fields import draw_field_scene
from scripts.train.field_data import batch_of, load_split
from scripts.train.field_grow import begin_with_fields
from scripts.train.field_pictures import Split, cast_of, write_split
from scripts.train.field_start import colors_at_anchors
from scripts.train.fields import TrainConfig, Trainer, run

SMALL = NetworkConfig(anchors=256, coarse=64, basis=4, code_size=4, hidden=16, feature_size=8, widths=(8, 8))


def samples(seed: int, rays: int = 5, levels: int = 40, count: int = 60):
    """Random samples, in order: optical depths, features, rays, levels."""
    rng = np.random.default_rng(seed)
    key = np.sort(rng.choice(rays * levels, count, replace=False))
    numbers = torch.from_numpy(rng.exponential(0.4, count)), torch.from_numpy(rng.normal(size=(count, 3)))
    return (*numbers, torch.from_numpy(key // levels), torch.from_numpy(key % levels))


def rendered(optical, features, ray, rays: int):
    """Volume rendering of one object, sample by sample (Max 1995)."""
    out, alpha = np.zeros((rays, features.shape[1])), np.zeros(rays)
    for r in range(rays):
        clear = 1.0
        for x, f in zip(optical[ray == r].tolist(), features[ray == r].numpy(), strict=True):
            out[r] += clear * (1 - np.exp(-x)) * f
            clear *= np.exp(-x)
        alpha[r] = 1 - clear
    return out, alpha


def test_one_object_is_volume_rendering():
    optical, features, ray, level = samples(0)
    seen = composite(optical, features, ray, level, 6)
    features_of_rays, alpha = rendered(optical, features, ray, 6)
    np.testing.assert_allclose(seen.features, features_of_rays, atol=1e-12)
    np.testing.assert_allclose(seen.alpha, alpha, atol=1e-12)
    assert float(seen.alpha[5]) == 0  # a ray without samples


def two_objects():
    a, b = samples(1), samples(2)
    places = [set(zip(x[2].tolist(), x[3].tolist(), strict=True)) for x in (a, b)]
    assert places[0] & places[1]
    return a, b


def test_order_of_samples_and_objects_changes_nothing():
    a, b = two_objects()
    both = [torch.cat(parts) for parts in zip(a, b, strict=True)]
    seen = composite(*both, 5)
    order = torch.from_numpy(np.random.default_rng(3).permutation(len(both[0])))
    mixed = composite(*(x[order] for x in both), 5)
    torch.testing.assert_close(mixed.features, seen.features, rtol=0, atol=1e-14)
    torch.testing.assert_close(mixed.alpha, seen.alpha, rtol=0, atol=1e-14)
    torch.testing.assert_close(mixed.weights, seen.weights[order], rtol=0, atol=1e-14)


def test_densities_add_and_features_mix_by_density():
    a, b = two_objects()
    both = composite(*(torch.cat(parts) for parts in zip(a, b, strict=True)), 5)
    place = {}
    for optical, feature, ray, level in [*zip(*a, strict=True), *zip(*b, strict=True)]:
        total, weighted = place.get((int(ray), int(level)), (0.0, 0.0))
        place[int(ray), int(level)] = (total + optical, weighted + optical * feature)
    keys = sorted(place)
    optical = torch.stack([place[k][0] for k in keys])
    features = torch.stack([place[k][1] / place[k][0] for k in keys])
    expected, alpha = rendered(optical, features, torch.tensor([ray for ray, _ in keys]), 5)
    np.testing.assert_allclose(both.features, expected, atol=1e-12)
    np.testing.assert_allclose(both.alpha, alpha, atol=1e-12)


def test_operator_is_differentiable():
    a, b = two_objects()
    optical, features, ray, level = (torch.cat([x[:12], y[:12]]) for x, y in zip(a, b, strict=True))
    optical[0] = 0  # where (1 - exp(-x)) / x has its limit

    def outputs(x, f):
        seen = composite(x, f, ray, level, 5)
        return seen.features, seen.alpha

    optical[0] = 1e-5  # central differences need both sides
    assert torch.autograd.gradcheck(outputs, (optical.requires_grad_(), features.requires_grad_()), eps=1e-7)


def test_nothing_is_transparent():
    empty = torch.zeros(0, dtype=torch.int64)
    seen = composite(torch.zeros(0), torch.zeros(0, 3), empty, empty, 4)
    assert seen.features.shape == (4, 3)
    assert float(seen.alpha.abs().max()) == 0


@pytest.fixture(scope="module")
def fields() -> FieldSet:
    torch.manual_seed(0)
    network = FieldNetwork(SMALL).eval().requires_grad_(False)
    return FieldSet(network, torch.randn(6, 4), torch.randn(3, 8))


CAMERA = FieldCamera(120.0, np.diag([1.0, -1.0, -1.0]), np.array([0.0, 0.9, 4.0]), 96)


@pytest.fixture(scope="module")
def people(fields) -> tuple[BodyField, ...]:
    """Two people beside each other, and one in front of the second."""
    model = bodyfit.load_model("open")
    bodies = bodyfit.random_bodies(3, model=model, seed=4, floor=True)
    placed = bodies.transl.clone()
    placed[:, 0] += torch.tensor([-0.7, 0.7, 0.6])
    placed[:, 2] += torch.tensor([0.0, -0.4, 0.5])
    params = model.params(**{**bodies, "transl": placed})
    return tuple(BodyField(params.select([i]), model, fields.appearances[i]) for i in range(3))


def test_a_new_field_is_the_body(fields, people):
    """Before any training what is opaque is the body, a step's blur at its outline apart."""
    one = people[0]
    drawn = draw_fields(FieldScene((one,), fields.backgrounds[0], CAMERA), fields)
    with torch.no_grad():
        points = one.model(**one.params).vertices[0].numpy() * (1, -1, -1) + CAMERA.t_cam_world_m
    truth = depth_map(points, one.model.faces.numpy(), 60.0, (24.0, 24.0), (48, 48))
    body, opaque = truth.faces >= 0, drawn.alpha > 0.5
    assert body.sum() > 60
    assert (body & opaque).sum() / (body | opaque).sum() > 0.75
    both = body & opaque
    assert np.median(np.abs(drawn.depth_m - truth.depth_m)[both]) < 0.03
    assert drawn.alpha[0, 0] == 0


def test_permuting_objects_changes_nothing(fields, people):
    scene = FieldScene(people, fields.backgrounds[0], CAMERA)
    drawn, turned = draw_fields(scene, fields), draw_fields(replace(scene, objects=people[::-1]), fields)
    assert np.abs(drawn.picture.astype(int) - turned.picture).max() <= 1  # float32 sums in another order
    np.testing.assert_allclose(drawn.shares, turned.shares[::-1], atol=1e-5)


def test_moving_one_object_leaves_the_pixels_that_it_does_not_touch(fields, people):
    scene = FieldScene(people[:2], fields.backgrounds[0], CAMERA)
    moved = replace(people[1], t_world_body_m=np.array([0.3, 0.05, 0.0]))
    before, after = draw_fields(scene, fields), draw_fields(replace(scene, objects=(people[0], moved)), fields)
    touched = (before.shares[1] > 0) | (after.shares[1] > 0)
    wide = np.kron(touched, np.ones((2, 2), bool))
    for _ in range(5):  # what the renderer's convolutions reach: 2 pixels of features and 1 of the picture
        grown = np.pad(wide, 1)
        wide = np.logical_or.reduce([grown[y : y + 96, x : x + 96] for y in range(3) for x in range(3)])
    same = np.all(before.picture == after.picture, axis=2)
    assert same[~wide].all()
    assert (before.shares[0] > 0.5).any()
    assert not same.all()


def test_a_placement_is_the_same_as_moved_parameters(fields, people):
    one = people[0]
    params = one.model.params(**{**one.params, "transl": one.params.transl + torch.tensor([0.2, 0.0, 0.3])})
    scene = FieldScene((replace(one, params=params),), fields.backgrounds[0], CAMERA)
    placed = replace(one, t_world_body_m=np.array([0.2, 0.0, 0.3]))
    drawn = draw_fields(scene, fields), draw_fields(replace(scene, objects=(placed,)), fields)
    assert (
        np.abs(drawn[0].alpha - drawn[1].alpha).mean() < 1e-3
    )  # voxels lie elsewhere: other nearest vertices here or there


def test_scale_about_the_eye_changes_nothing_but_the_step(fields, people):
    """A person twice as large, twice as far away, looks the same; its samples are twice as dense."""
    one = people[0]
    eye = -CAMERA.R_cam_world.T @ CAMERA.t_cam_world_m
    near = FieldScene((one,), fields.backgrounds[0], CAMERA)
    far = replace(near, objects=(replace(one, scale=2.0, t_world_body_m=-eye),))
    drawn = draw_fields(near, fields), draw_fields(far, fields)
    assert np.abs(drawn[0].alpha - drawn[1].alpha).mean() < 0.01
    seen = drawn[0].person == 0
    assert np.median(drawn[1].depth_m[seen] / drawn[0].depth_m[seen]) == pytest.approx(2, rel=0.01)


def test_a_scene_without_people_is_its_background(fields):
    drawn = draw_fields(FieldScene((), fields.backgrounds[0], CAMERA), fields)
    assert float(drawn.alpha.max()) == 0
    assert drawn.person.max() == -1


def test_a_set_survives_a_file(fields, people, tmp_path):
    save_fields(fields, tmp_path / "set.npz")
    again = load_fields(tmp_path / "set.npz")
    torch.testing.assert_close(again.appearances, fields.appearances, rtol=1e-3, atol=1e-3)
    scene = FieldScene(people[:1], fields.backgrounds[0], CAMERA)
    assert np.abs(draw_fields(scene, again).picture.astype(int) - draw_fields(scene, fields).picture).max() <= 2


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "set.npz"
    if content is None:
        np.savez(path, config=np.frombuffer(b'{"version": 1, "depth": 3}', np.uint8))
    else:
        path.write_bytes(content)
    with pytest.raises(AssetError, match=r"set\.npz"):
        load_fields(path)


def test_random_codes_lie_between_people_and_do_not_depend_on_their_number(fields):
    codes = fields.random_appearances(5, seed=2)
    torch.testing.assert_close(codes[:3], fields.random_appearances(3, seed=2))
    low, high = fields.appearances.amin(0) - 1e-6, fields.appearances.amax(0) + 1e-6
    assert bool(((codes >= low) & (codes <= high)).all())
    with pytest.raises(OptionError, match="seed"):
        fields.random_appearances(1, seed=-1)


def test_codes_are_found_from_a_picture(fields, people):
    """The network can be told what made one of its own pictures."""
    scene = FieldScene(people[:1], fields.backgrounds[1], CAMERA)
    drawn = draw_fields(scene, fields)
    alpha = np.kron(drawn.alpha, np.ones((2, 2)))
    start = replace(scene, objects=(replace(people[0], appearance=torch.zeros(4)),), background=torch.zeros(8))
    fitted = draw_fields(fit_codes(drawn.picture, alpha, start, fields, steps=40), fields)
    mean = replace(people[0], appearance=fields.appearances.mean(0))
    first = draw_fields(replace(scene, objects=(mean,), background=fields.backgrounds.mean(0)), fields)
    errors = [np.abs(x.picture.astype(float) - drawn.picture).mean() for x in (fitted, first)]
    assert errors[0] < 0.3 * errors[1]
    with pytest.raises(ShapeError, match="96 pixels"):
        fit_codes(drawn.picture[:50], alpha, start, fields)


def test_mistakes_are_named(fields, people):
    with pytest.raises(ShapeError, match="one body"):
        BodyField(bodyfit.random_bodies(2, seed=0), people[0].model, fields.appearances[0])
    with pytest.raises(OptionError, match="multiple of 2"):
        draw_fields(FieldScene(people, fields.backgrounds[0], replace(CAMERA, size=97)), fields)
    with pytest.raises(OptionError, match="atlas, plain"):
        NetworkConfig(field="grid")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    write_split(folder, Split("train", 4, 101, (1, 2), 0, 3), cast_of(3), 64, 0)
    return load_split(folder, "train", SMALL)


@pytest.mark.parametrize("field", ["atlas", "plain"])
def test_training_that_was_stopped_ends_at_the_same_weights(pictures, tmp_path, field):
    torch.set_num_threads(1)
    config, network = TrainConfig(steps=8, batch=2, adversarial_from=5), replace(SMALL, field=field)
    whole, stopped, resumed = (Trainer(config, network, 3) for _ in range(3))
    run(whole, pictures, tmp_path / "whole", 4)
    run(stopped, pictures, tmp_path / "parts", 4, until=4)
    assert stopped.step == 4
    run(resumed, pictures, tmp_path / "parts", 4)
    for (name, a), (_, b) in zip(whole.network.state_dict().items(), resumed.network.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert torch.equal(whole.appearances, resumed.appearances)
    assert load_fields(tmp_path / "parts" / "people.npz").appearances.shape == (3, 4)


def test_a_larger_set_begins_as_the_smaller_one_and_goes_on(pictures, tmp_path):
    small = Trainer(TrainConfig(steps=6, batch=2), SMALL, 3)
    run(small, pictures, tmp_path / "small", 6)
    start = load_fields(tmp_path / "small" / "people.npz")
    large = Trainer(TrainConfig(steps=4, batch=2), replace(SMALL, code_size=6, basis=7), 3)
    codes = large.appearances.data, large.backgrounds.data
    begin_with_fields(large.network, *codes, start, pictures)
    assert large.appearances[:, 4:].std() > 0
    drawn = [
        network(batch_of(pictures, None, network, *own)[0]).pictures
        for network, *own in ((start.network, start.appearances, start.backgrounds), (large.network, *codes))
    ]
    torch.testing.assert_close(*drawn, rtol=0, atol=1e-6)
    run(large, pictures, tmp_path / "large", 4, start=start)
    basis = load_fields(tmp_path / "large" / "people.npz").network.body.basis
    assert basis.shape[0] == 7
    assert basis[4:].abs().max() > 0


def test_training_lowers_the_loss(pictures):
    trainer = Trainer(TrainConfig(steps=60, batch=2), SMALL, 3)

    @torch.no_grad()
    def loss() -> float:
        whole = batch_of(pictures, None, trainer.network, trainer.appearances, trainer.backgrounds)
        return float(picture_loss(trainer.network(whole[0]), *whole[1:]))

    before = loss()
    for _ in range(30):
        trainer.train_step(pictures)
    assert loss() < 0.9 * before


def test_features_of_the_landmark_network_pull_on_the_pictures(pictures):
    """Their gradient reaches the networks: a step with them ends at other weights, the loss of colours is the same."""
    config = TrainConfig(steps=2, batch=2)
    plain, felt = (Trainer(one, SMALL, 3) for one in (config, replace(config, perceptual_from=0)))
    assert plain.train_step(pictures) == felt.train_step(pictures)
    assert not torch.equal(plain.network.renderer.colors[0].weight, felt.network.renderer.colors[0].weight)


def test_colours_at_anchors_are_those_of_the_pictures(pictures):
    """Everybody in one colour each: that colour comes back at every anchor, looked at or not."""
    colors = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200)], np.uint8)
    plain = [
        replace(one, picture=np.broadcast_to(colors[one.people[0]], one.picture.shape))
        for one in pictures
        if len(one.people) == 1
    ]
    at_anchors = colors_at_anchors(plain, 3, surface_atlas(SMALL.anchors, SMALL.coarse))
    for person in {one.people[0] for one in plain}:
        assert np.median(np.abs(at_anchors[person] - colors[person] / 255)) < 1e-9


def test_scenes_are_drawn_by_the_shipped_fields(tmp_path):
    config = SceneConfig(people=(2, 2), size=96, fields=True)
    path = write_scenes(config, 1, tmp_path / "a", labels=("masks", "depth_npy"))
    people = json.loads(path.read_text())["annotations"]
    assert [one["person"] for one in people] == [0, 1]
    with Image.open(tmp_path / "a" / "images" / "000000.jpg") as picture:
        assert picture.size == (96, 96)
    depth = np.load(tmp_path / "a" / "depth_npy" / "000000.npy")
    with Image.open(tmp_path / "a" / "masks" / "000000.png") as file:
        assert ((np.asarray(file) > 0) == np.isfinite(depth)).all()
    scene = sample_scene(replace(config, things=0.0), 0, 0)
    dressed, drawn = draw_scene(scene), draw_field_scene(scene)
    for number in range(2):  # fields stand where the clothes do
        a, b = dressed.person == number, drawn.person == number
        assert (a & b).sum() / (a | b).sum() > 0.6
    with pytest.raises(OptionError, match="garments"):
        write_scenes(config, 1, tmp_path / "b", labels=("garments",))
    with pytest.raises(OptionError, match="undistorted"):
        SceneConfig(fields=True, backgrounds=tmp_path)
