"""The page that `bodyfit report` writes, and the folder it is made of."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from shown_results import result_of, standing, write_clip, write_picture

import bodyfit
from bodyfit.app.results import find
from bodyfit.app.results.bodies import Models
from bodyfit.app.results.folder import read_results
from bodyfit.body.assets import load_assets
from bodyfit.body.model import BodyParams
from bodyfit.cli.main import main
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitStatus
from bodyfit.geometry.camera import flip_yz
from bodyfit.io import save, save_model
from bodyfit.report.pack import jpeg_within, pack_integers, pack_points, unpack_integers
from bodyfit.report.page import page, write_page
from bodyfit.skeleton import SMPL


@pytest.fixture(scope="module")
def model():
    return bodyfit.load_model("open")


# ---------------------------------------------------------------- packing


@pytest.mark.parametrize("largest", [0, 1, 127, 128, 40_000, 2**31 - 1])
def test_integers_come_back(largest):
    rng = np.random.default_rng(largest)
    array = rng.integers(-(largest // 2), largest // 2 + 1, (37, 5))
    assert np.array_equal(unpack_integers(pack_integers(array)), array)


def test_a_difference_too_large_is_refused():
    with pytest.raises(OverflowError):
        pack_integers(np.array([[0], [2**33]]))


def test_points_come_back_within_half_a_step():
    points = np.random.default_rng(0).normal(size=(3, 50, 3)).astype(np.float32)
    packed = pack_points(points, 1e-4)
    steps = unpack_integers(packed).reshape(50, 3, 3).transpose(1, 0, 2).cumsum(0)
    found = np.array(packed["low"]) + packed["step"] * steps
    assert np.abs(found - points).max() <= 0.5e-4 + 1e-9  # rounding once, whatever the number of poses


@pytest.mark.parametrize("limit", [10_000, 100_000])
def test_pictures_fit_in_their_share(limit):
    noise = np.random.default_rng(0).integers(0, 256, (900, 2000, 3), dtype=np.uint8)
    assert len(jpeg_within(noise, limit)) <= limit
    small = noise[:20, :30]
    import io

    assert Image.open(io.BytesIO(jpeg_within(small, 100_000))).size == (30, 20)  # never enlarged


# ---------------------------------------------------------------- reading a folder


def test_a_folder_is_read_as_it_was_written(model, tmp_path):
    out = tmp_path / "out"
    written = write_picture(out, model, people=2)
    clip = write_clip(out, model)
    results = read_results(out)
    assert [scene.name for scene in results.scenes] == ["clip", "photo"]
    track, photo = results.scenes
    assert (photo.fps, track.fps) == (0.0, 30.0)
    assert photo.source == tmp_path / "photo.jpg"
    assert photo.overlay == out / "photo" / "overlay.jpg"
    for person, result in zip(photo.people, written, strict=True):
        assert torch.equal(person.result.params.betas, result.params.betas)
    (person,) = track.people
    assert torch.equal(person.result.params.body_pose, clip.params.body_pose)
    assert person.frames.tolist() == list(range(3, 15))
    assert np.flatnonzero(~person.seen).tolist() == [4, 5]
    alone = read_results(out / "photo" / "person1.npz")
    assert [p.number for scene in alone.scenes for p in scene.people] == [1]


def test_each_file_of_people_is_read_once(model, tmp_path, monkeypatch):
    out, opened, real = tmp_path / "out", [], np.load
    write_picture(out, model, people=2)
    write_clip(out, model)
    monkeypatch.setattr(np, "load", lambda path, **how: opened.append(path) or real(path, **how))
    assert [found.is_clip for found in find.find_results([out])] == [True, False]
    assert opened == []  # its table of contents is enough
    read_results(out)
    assert sorted(path.relative_to(out).as_posix() for path in opened) == [
        "clip/person0.npz",
        "photo/person0.npz",
        "photo/person1.npz",
    ]


def test_a_result_is_shown_by_a_model_of_as_many_betas(tmp_path):
    """A body of the user's, with more than the ten that a model has by default."""
    assets = load_assets("open")
    more = np.random.default_rng(0).normal(0, 0.002, (*assets.shapedirs.shape[:2], 4))
    path = save_model(replace(assets, shapedirs=np.concatenate([assets.shapedirs, more], 2)), tmp_path / "wide.npz")
    wide = bodyfit.load_model(path, num_betas=14)
    params = standing(wide, torch.linspace(-2, 2, 14)[None], torch.zeros(1, 69))
    save(result_of(wide, params, name=str(path)), tmp_path / "person0.npz")
    (person,) = find.find_results([tmp_path / "person0.npz"])[0].people()
    models = Models()
    assert models.of(person.result).num_betas == 14
    torch.testing.assert_close(models.vertices(person, [0]), wide(**params).vertices)
    assert models.of(person.result) is models.of(person.result)
    assert main(["render", str(tmp_path / "person0.npz"), "--view", "front", "-o", str(tmp_path / "r")]) == 0
    with pytest.raises(AssetError, match=r"gone.npz"):
        Models(str(tmp_path / "gone.npz")).of(person.result)


def test_what_cannot_be_read_costs_only_itself(model, tmp_path):
    out = tmp_path / "out"
    write_picture(out, model, people=2)
    (out / "photo" / "person1.npz").write_bytes(b"PK\x03\x04 and no more")
    summary = json.loads((out / "summary.json").read_text())
    summary["inputs"].append({"input": "dark.jpg", "status": "nobody", "message": "nobody was found", "people": []})
    (out / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "photo.jpg").unlink()
    results = read_results(out)
    ((person,),) = (scene.people for scene in results.scenes)
    assert person.number == 0
    assert results.scenes[0].source is None
    assert any("not there any more" in note for note in results.scenes[0].notes)
    assert {failure.name for failure in results.failures} == {"photo/person1.npz", "dark.jpg"}


def test_a_batch_in_one_file_is_many_people(model, tmp_path):
    write_picture(tmp_path / "out", model, people=2)
    batch = result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(3, 69)))
    bodyfit.save(batch, tmp_path / "people.npz")
    (scene,) = read_results(tmp_path / "people.npz").scenes
    assert [person.number for person in scene.people] == [0, 1, 2]


def test_a_failed_fit_has_numbers_and_no_body(model, tmp_path):
    write_picture(tmp_path / "out", model, people=2)
    good = result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(1, 69)))
    params = BodyParams(**{name: torch.full_like(value, torch.nan) for name, value in good.params.items()})
    nan = torch.tensor([torch.nan])
    failed = replace(
        good,
        params=params,
        status=(FitStatus.UNOBSERVABLE,),
        joints=torch.full_like(good.joints, torch.nan),
        joints_sd_rel_m=torch.full_like(good.joints[..., 0], torch.nan),
        reprojection_error_px=nan,
        objective=nan,
    )
    bodyfit.save(failed, tmp_path / "out" / "photo" / "person1.npz")
    text = page(read_results(tmp_path / "out"))
    assert '<span class="pill bad">unobservable</span>' in text
    assert text.count('"points":') == 1
    words = re.sub(r'base64,[^"]*', "", text.partition('<script type="application/json"')[0])
    assert "nan" not in words.lower()  # the JSON after it cannot hold one


def test_legs_that_nobody_sees_are_said_to_be_at_rest(model, tmp_path):
    write_picture(tmp_path / "out", model, people=2)
    shown = result_of(model, standing(model, torch.zeros(1, 10), torch.zeros(1, 69)))
    upper = torch.tensor([not any(part in name for part in ("knee", "ankle", "foot")) for name in SMPL.names])
    for number, observed in ((0, torch.ones(24, dtype=torch.bool)), (1, upper)):
        save(replace(shown, observed_joints=observed[None]), tmp_path / "out" / "photo" / f"person{number}.npz")
    cards = page(read_results(tmp_path / "out")).split('<article class="card">')[1:]
    said = "<dt>legs</dt><dd>at rest<small>not visible</small></dd>"
    assert [said in card for card in cards] == [False, True]


def test_a_picture_that_is_none_is_said(model, tmp_path):
    write_picture(tmp_path / "out", model)
    (tmp_path / "out" / "photo" / "overlay.jpg").write_bytes(b"not a picture")
    text = page(read_results(tmp_path / "out"))
    assert "overlay.jpg is not a picture" in text
    assert text.count('"points":') == 1


def test_folders_without_results_are_explained(model, tmp_path):
    with pytest.raises(OptionError, match="no such folder"):
        read_results(tmp_path / "missing")
    with pytest.raises(OptionError, match="bodyfit fit"):
        read_results(tmp_path)
    write_picture(tmp_path / "out", model)
    (tmp_path / "out" / "summary.json").write_text("[1, 2")
    with pytest.raises(AssetError, match=r"summary\.json"):
        read_results(tmp_path / "out")
    (tmp_path / "out" / "summary.json").unlink()
    (tmp_path / "out" / "photo" / "person0.npz").write_bytes(b"no")
    with pytest.raises(AssetError, match=r"person0\.npz"):
        read_results(tmp_path / "out")


# ---------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def report(model, tmp_path_factory):
    """(page, results of the picture, result of the clip): two people in a picture, and a clip."""
    folder = tmp_path_factory.mktemp("report")
    written = write_picture(folder / "out", model, people=2, name='a <b> & "c"')
    clip = write_clip(folder / "out", model)
    path = folder / "page.html"
    size = write_page(read_results(folder / "out"), path, title="</script><script>window.evil = 1</script>")
    assert size == path.stat().st_size
    return path, written, clip


def test_the_bodies_in_the_page_are_those_of_the_fit(browser, report, model):
    """Unpacked in the browser: within half a step, 0.05 mm (0.25 mm in clips) an axis; y up; one mesh for all."""
    path, written, clip = report
    with browser.open(path) as page:
        page.wait_for("window.bodyfit?.stages.length")
        bodies = page.evaluate("bodyfit.bodies.map((b) => b.poses.map((p) => Array.from(p)))")
        faces = np.array(page.evaluate("Array.from(bodyfit.bodies[0].geometry.index.array)")).reshape(-1, 3)
        assert page.evaluate("document.querySelectorAll('canvas').length") == 4  # three people, two together
        assert page.evaluate("window.evil") is None
        assert page.requests == [path.as_uri()]  # the page, and nothing else
        assert page.errors == []
    assert np.array_equal(faces, model.faces.numpy())
    *still, moving = bodies
    with torch.no_grad():
        for found, result in zip(still, written, strict=True):
            want = flip_yz(model(**result.params).vertices).numpy()
            np.testing.assert_allclose(np.array(found).reshape(want.shape), want, atol=0.05e-3 + 1e-6)
        want = flip_yz(model(**clip.params).vertices).numpy()
    found = np.array(moving).reshape(-1, *want.shape[1:])
    assert len(found) == len(want)  # a clip of twelve frames is shown whole
    np.testing.assert_allclose(found, want, atol=0.25e-3 + 1e-6)


def test_bodies_are_drawn_and_turn_with_the_mouse(browser, report):
    with browser.open(report[0], size=(1100, 800)) as page:
        page.wait_for("window.bodyfit?.stages.length")
        place = page.evaluate(
            "(() => { const c = document.querySelector('canvas'); c.scrollIntoView({ block: 'center' });"
            "const r = c.getBoundingClientRect(); return [r.x, r.y, r.width, r.height].map(Math.round) })()"
        )
        x, y, w, h = place
        page.wait_for("bodyfit.stages[0].drawn > 0 && bodyfit.stages[0].visible")
        before = page.screenshot()[y : y + h, x : x + w].astype(int)
        # The blue body amid the grey stage: more blue than red by far, upright, in the middle.
        blue = before[..., 2] - before[..., 0] > 40
        rows, columns = np.flatnonzero(blue.any(1)), np.flatnonzero(blue.any(0))
        assert 0.5 * h < len(rows) < 0.95 * h
        assert abs(columns.mean() - w / 2) < 0.1 * w
        drawn = page.evaluate("bodyfit.stages[0].drawn")
        page.drag((x + w / 2, y + h / 2), (x + w / 2 + 80, y + h / 2))
        page.wait_for(f"bodyfit.stages[0].drawn > {drawn}")
        after = page.screenshot()[y : y + h, x : x + w].astype(int)
        assert (np.abs(after - before).max(-1) > 20).mean() > 0.02


def test_the_time_line_moves_the_clip(browser, report):
    with browser.open(report[0]) as page:
        page.wait_for("window.bodyfit?.stages.length")
        moved = page.evaluate(
            "(() => { const slider = document.querySelector('input[data-pose]'), body = bodyfit.bodies[2];"
            "const before = body.geometry.attributes.position.array.slice(); slider.value = slider.max;"
            "slider.dispatchEvent(new Event('input')); const after = body.geometry.attributes.position.array;"
            "const most = after.reduce((m, x, i) => Math.max(m, Math.abs(x - before[i])), 0);"
            "return [slider.max, slider.nextElementSibling.value, most] })()"
        )
        assert moved[:2] == ["11", "frame 14"]
        assert moved[2] > 0.5  # metres that the hand went


def test_the_numbers_need_no_script(browser, report, model):
    path, written, _ = report
    with browser.open(path, scripts=False) as page:
        text = page.text()
        assert page.errors == []
    height = float(model.measure(written[0].params.betas).height[0])
    for words in (
        'a <b> & "c"',
        "Person 0",
        "converged",
        "1.0\u202fpx",
        f"{height:.2f}\u202fm",
        "a guess",
        "±36\u202fmm",
    ):
        assert words in text, words
    assert "frames" in text
    assert "3 to 14, 2 filled" in text


def test_ten_people_stay_below_ten_megabytes(model, tmp_path):
    for i in range(5):
        write_picture(tmp_path / "out", model, people=2, name=f"p{i}", size=(1800, 1200), seed=i)
    path = tmp_path / "page.html"
    assert 1e6 < write_page(read_results(tmp_path / "out"), path) < 10e6
    text = path.read_text()
    assert len(re.findall(r'"mesh":', text)) == 10
    assert text.count('"rows": 26972') == 1, "faces once"
    assert "http://" not in text.replace("http://www.w3.org", "")


def test_the_command(model, tmp_path, capsys):
    write_picture(tmp_path / "out", model)
    assert main(["report", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    assert "1 person" in capsys.readouterr().out
    for arguments, says in (
        ([str(tmp_path / "none")], "no such folder"),
        ([str(tmp_path / "out"), "-o", str(tmp_path)], "is a folder"),
        ([str(tmp_path / "out"), "-o", "/proc/no/report.html"], "/proc/no/report.html"),
        ([str(tmp_path / "out"), "--model", "missing.npz"], "missing.npz"),
    ):
        assert main(["report", *arguments]) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert len(captured.err.strip().splitlines()) == 1
        assert says in captured.err


def test_hands_and_faces_from_near_are_shown_where_they_lie_beside_the_overlay(model, tmp_path):
    write_picture(tmp_path / "out", model)
    assert 'class="insets"' not in page(read_results(tmp_path / "out"))
    Image.fromarray(np.full((32, 196, 3), 90, np.uint8)).save(tmp_path / "out" / "photo" / "insets.png")
    found = re.search(
        r'<img class="insets" width="196" height="32" alt="Faces and hands of photo[^"]*" src="([^"]*)"',
        page(read_results(tmp_path / "out")),
    )
    assert found is not None
    assert found[1].startswith("data:image/jpeg;base64,")
