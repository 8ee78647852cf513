"""Masks from files and detectors: whose they are, what is refused, and `bodyfit fit --masks` to the end."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import bodyfit
from bodyfit.app.clip_person import DetectedFrame, with_mask_files
from bodyfit.app.silhouettes import masks_of, with_outlines
from bodyfit.cli.main import main
from bodyfit.detect import DETECTORS
from bodyfit.errors import ImageError
from bodyfit.fit.silhouette.masks import EMPTY, INVERTED, outline_of
from bodyfit.images.frame import Frame
from bodyfit.io import VideoWriter, load_keypoints, save_keypoints
from bodyfit.io.clip_masks import ClipMasks
from bodyfit.io.masks import MaskFiles, with_masks
from bodyfit.keypoints import KeypointRows, Keypoints2D, SoftMask
from bodyfit.raster.outline import Outline
from bodyfit.render import draw_silhouettes

SIZE = (120, 90)


def person(x: float, y: float, wide: float = 8.0, tall: float = 20.0) -> Keypoints2D:
    """Somebody whose keypoints lie in a box about a place."""
    rng = np.random.default_rng(int(x))
    xy = np.array((x, y)) + rng.uniform(-0.9, 0.9, (17, 2)) * (wide, tall)
    return Keypoints2D("coco17", np.concatenate([xy, np.ones((17, 1))], 1).astype(np.float32))


def box(x: float, y: float, wide: float = 10.0, tall: float = 22.0) -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[1], : SIZE[0]] + 0.5
    return (abs(columns - x) < wide) & (abs(rows - y) < tall)


def put(path, values: np.ndarray) -> None:
    Image.fromarray(values).save(path)


FRAME = Frame(np.zeros((SIZE[1], SIZE[0], 3), np.uint8), None)
LEFT, RIGHT = person(30, 45), person(80, 45)


@pytest.fixture
def frame(tmp_path):
    return replace(FRAME, path=tmp_path / "pictures" / "a.jpg")


def check(masks: list[SoftMask | None], wanted: list[np.ndarray]) -> None:
    for mask, want in zip(masks, wanted, strict=True):
        assert mask is not None
        np.testing.assert_array_equal(mask.full(SIZE) >= 128, want)


def test_a_map_of_numbers_gives_each_person_theirs(tmp_path, frame):
    put(tmp_path / "a.png", np.uint8(3 * box(80, 45)) + np.uint8(7 * box(30, 45)))
    files = MaskFiles(tmp_path)
    check(files.of(frame, [LEFT, RIGHT]), [box(30, 45), box(80, 45)])
    check(files.of(frame, [RIGHT, LEFT]), [box(80, 45), box(30, 45)])
    assert files.of(frame, []) == []
    third = person(60, 10, 3, 5)
    assert files.of(frame, [LEFT, third])[1] is None
    assert MaskFiles(tmp_path).of(replace(frame, path=tmp_path / "b.jpg"), [LEFT]) == [None]


@pytest.mark.parametrize("mode", ["L", "1", "RGB", "P", "I;16"])
def test_files_for_each_person_in_any_order_and_mode(tmp_path, frame, mode):
    for number, x in ((0, 80), (1, 30)):
        if mode == "I;16":
            put(tmp_path / f"a.person{number}.png", np.uint16(9 * box(x, 45)))
        else:
            Image.fromarray(np.uint8(255 * box(x, 45))).convert(mode).save(tmp_path / f"a.person{number}.png")
    put(tmp_path / "a.png", np.uint8(255 * box(10, 10)))  # those of each person count
    check(MaskFiles(tmp_path).of(frame, [LEFT, RIGHT]), [box(30, 45), box(80, 45)])


def test_files_that_cannot_be_used_are_refused(tmp_path, frame):
    with pytest.raises(ImageError, match="no folder"):
        MaskFiles(tmp_path / "nowhere")
    with pytest.raises(ImageError, match="holds no masks"):
        MaskFiles(tmp_path)
    put(tmp_path / "a.png", np.zeros((10, 20), np.uint8))
    with pytest.raises(ImageError, match="is 20x10, its picture is 120x90"):
        MaskFiles(tmp_path).of(frame, [LEFT])
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"a\.png"):
        MaskFiles(tmp_path).of(frame, [LEFT])


@pytest.mark.parametrize(("values", "word"), [(np.zeros, EMPTY), (None, INVERTED)])
def test_the_only_mask_of_the_only_person_is_theirs_whatever_it_is(tmp_path, frame, values, word):
    alpha = np.zeros(SIZE[::-1], np.uint8) if values else np.uint8(255 * ~box(30, 45))
    put(tmp_path / "a.png", alpha)
    (mask,) = MaskFiles(tmp_path).of(frame, [LEFT])
    assert mask is not None
    assert outline_of(mask, SIZE, LEFT.xyc.astype(float)) == (None, word)


def test_where_two_people_meet_the_edge_is_not_certain():
    left, right = box(30, 45, 20), box(70, 45, 20)  # they touch at x = 50
    people = [
        replace(one, mask=SoftMask(np.uint8(255 * mask), (0, 0)))
        for one, mask in zip([person(30, 45, 18), person(70, 45, 18)], (left, right), strict=True)
    ]
    first, second = with_outlines(people, SIZE)
    for one, side in ((first.mask, 1), (second.mask, -1)):
        assert isinstance(one, Outline)
        shared = abs(one.xy_px[:, 0] - 50) < 2
        assert shared.any()
        assert not one.certain[shared].any()
        assert one.certain[side * (50 - one.xy_px[:, 0]) > 6].all()
    alone, _ = masks_of([people[0], replace(people[1], mask=None)], SIZE)
    assert alone is not None
    assert not isinstance(alone, Outline)
    assert alone.unknown is None


def test_outlines_go_through_a_clip_in_few_numbers():
    rows = KeypointRows()
    for mask in (box(30, 45), None, box(31, 45)):
        given = None if mask is None else SoftMask(np.uint8(255 * mask), (0, 0))
        (one,) = with_outlines([replace(LEFT, mask=given)], SIZE)
        rows.append(one.scaled(2.0))
    assert rows[1].mask is None
    assert isinstance(rows[2].mask, Outline)
    np.testing.assert_allclose(np.ptp(rows[2].mask.xy_px, 0), (2 * 20, 2 * 44), atol=0.5)
    assert len(rows[2].mask.thinned(40)) <= 40
    assert rows[2].scaled(0.5).mask.step_px == rows[2].mask.step_px / 2


def test_masks_of_files_take_the_place_of_others(tmp_path, frame):
    put(tmp_path / "a.png", np.uint8(255 * box(30, 45)))
    own = replace(LEFT, mask=SoftMask(np.uint8(255 * box(5, 5)), (0, 0)))
    assert with_masks([own], frame, None) == [own]
    (other,) = with_masks([own], frame, MaskFiles(tmp_path))
    check([other.mask], [box(30, 45)])


def test_the_picture_tells_what_is_in_one_alone():
    image = np.full((SIZE[1], SIZE[0], 3), 90, np.uint8)
    corners = torch.tensor([[-1.0, -1.0, 2.0], [1.0, -1.0, 2.0], [-1.0, 1.0, 2.0], [1.0, 1.0, 2.0]])
    faces = torch.tensor([[0, 1, 2], [2, 1, 3]])
    camera = bodyfit.Camera.make(1, SIZE, focal_px=40.0)
    mask = SoftMask(np.uint8(255 * box(70, 45, 20, 20)), (0, 0))  # the body is from 40 to 80
    drawn = draw_silhouettes(image, [mask], [corners], faces, camera).astype(int)
    middle = drawn[drawn.shape[0] // 2]
    orange, blue = (middle[:, 0] > 150) & (middle[:, 2] < 100), (middle[:, 2] > 150) & (middle[:, 0] < 100)
    assert 6 <= orange.sum() <= 10  # from 80 to 90, but the white edge
    assert 6 <= blue.sum() <= 10
    assert (middle == 255).all(1).sum() in range(4, 9)
    assert (middle == 90).all(1).sum() > 20  # where both are, and where neither is


# To the end.


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """A picture of one person, keypoints and a mask of a body wider than the mean."""
    from test_silhouette import FOCAL_PX
    from test_silhouette import SIZE as LARGE

    folder = tmp_path_factory.mktemp("scene")
    model = bodyfit.load_model()
    betas = torch.zeros(1, 10)
    betas[0, 1] = 2.0
    orient = torch.tensor([[np.pi, 0.0, 0.0]], dtype=torch.float32)
    body = model.params(betas=betas, global_orient=orient, transl=torch.tensor([[0.0, -0.2, 4.0]]))
    from test_silhouette import drawn

    mask = drawn(model, model(**body).vertices[0].numpy())
    points = model.keypoints(body, "mediapipe33")
    xy = bodyfit.Camera.make(1, LARGE, focal_px=FOCAL_PX).project(torch.nan_to_num(points))
    xyc = torch.cat([xy, torch.isfinite(points).all(2, keepdim=True).float()], 2)[0].numpy()
    one = Keypoints2D("mediapipe33", xyc)
    for name in ("good", "empty"):
        Image.fromarray(np.full((LARGE[1], LARGE[0], 3), 120, np.uint8)).save(folder / f"{name}.png")
    save_keypoints(folder / "keypoints.npz", {"good.png": [one], "empty.png": [one]})
    (folder / "masks").mkdir()
    Image.fromarray(np.uint8(255 * mask)).save(folder / "masks" / "good.png")
    Image.fromarray(np.uint8(0 * mask)).save(folder / "masks" / "empty.png")
    return folder, betas


def test_fit_and_batch_take_masks_of_files(scene, tmp_path, capsys):
    folder, betas = scene
    common = ["--keypoints", folder / "keypoints.npz", "--focal-px", "400"]
    pictures = [folder / "good.png", folder / "empty.png"]

    def run(*arguments) -> tuple[int, str]:
        code = main([str(a) for a in arguments])
        return code, capsys.readouterr().err

    code, told = run("fit", *pictures, *common, "--masks", folder / "masks", "-o", tmp_path / "fit")
    assert code == 0
    assert EMPTY in told
    summary = json.loads((tmp_path / "fit" / "summary.json").read_text())
    notes = [entry["people"][0].get("mask_note") for entry in summary["inputs"]]
    assert notes == [None, EMPTY]
    assert (tmp_path / "fit" / "good" / "silhouettes.png").is_file()
    model = bodyfit.load_model()
    fits = [bodyfit.load_result(tmp_path / "fit" / name / "person0.npz").params.betas for name in ("good", "empty")]
    wide, mean, true = (float(m.waist / m.height) for m in map(model.measure, (*fits, betas)))
    assert abs(wide - true) < 0.95 * abs(mean - true)
    batch = ["--masks", folder / "masks", "-o", tmp_path / "batch", "--workers", 1]
    assert run("batch", *pictures, *common, *batch)[0] == 0
    lines = [json.loads(line) for line in (tmp_path / "batch" / "status.jsonl").read_text().splitlines()]
    notes = {line["item"].rpartition("/")[2]: line.get("mask_notes") for line in lines if "item" in line}
    assert notes == {"good.png": None, "empty.png": {"0": EMPTY}}
    assert run("report", tmp_path / "fit", "-o", tmp_path / "page.html")[0] == 0
    assert "the edge of the mask" in (tmp_path / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--masks", "MASKS", "--no-silhouette"), "leave --no-silhouette out"),
        (("--silhouette",), "give them by --masks"),
        (("--masks", "NOWHERE"), "no folder"),
    ],
)
def test_options_that_contradict_each_other(scene, tmp_path, capsys, options, word):
    folder, _ = scene
    places = {"MASKS": folder / "masks", "NOWHERE": folder / "nowhere"}
    arguments = [str(places.get(option, option)) for option in options]
    given = ["fit", folder / "good.png", "--keypoints", folder / "keypoints.npz", *arguments, "-o", tmp_path]
    code = main([str(a) for a in given])
    assert code == 2
    assert word in capsys.readouterr().err


# Clips.


def test_masks_of_a_clip_are_found_by_the_frames_numbers(tmp_path):
    for name in ("clip_000002", "clip_000010.person0", "000003", "other_000004"):
        put(tmp_path / f"{name}.png", np.uint8(255 * box(30, 45)))
    files = MaskFiles(tmp_path)
    masks = ClipMasks(files, tmp_path / "Clip.mp4")
    assert masks.frames == {2, 10}
    check(masks.of(10, SIZE, [LEFT]), [box(30, 45)])
    assert masks.of(3, SIZE, [LEFT]) == [None]
    assert ClipMasks(files, tmp_path / "film.mp4").frames == {3}
    with pytest.raises(
        ImageError, match=r"no masks of film\.mp4; name them film_000123\.png for frame 123, from 0; it"
    ):
        ClipMasks(files, tmp_path / "film.mp4", only=False)


def test_masks_of_a_folder_of_frames_have_the_frames_names(tmp_path):
    frames, masks = tmp_path / "frames", tmp_path / "masks"
    frames.mkdir()
    masks.mkdir()
    for number in (7, 8, 9):
        put(frames / f"f{number}.jpg", np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
    put(masks / "f8.png", np.uint8(255 * box(30, 45)))
    assert ClipMasks(MaskFiles(masks), frames).frames == {1}
    (frames / "f8.jpg").unlink()
    with pytest.raises(ImageError, match="name them the frames' names; it has f8"):
        ClipMasks(MaskFiles(masks), frames)


def test_video_takes_masks_of_files_and_counts_those_of_no_use(scene, tmp_path, capsys, monkeypatch):
    folder, betas = scene
    one = load_keypoints(folder / "keypoints.npz").entries[0].people[0]

    class Knows:
        def detect(self, frames):
            return [[one] for _ in frames]

    monkeypatch.setitem(DETECTORS, "knows", Knows)
    with Image.open(folder / "masks" / "good.png") as opened:
        mask = np.asarray(opened)
    for number in range(6):
        put(tmp_path / f"clip_{number:06d}.png", mask * np.uint8(number != 4))
    with VideoWriter(tmp_path / "other.mp4", mask.shape[::-1], 10.0) as film:
        for _ in range(6):
            film.write(np.full((*mask.shape, 3), 120, np.uint8))

    def run(clip: str, *options) -> tuple[int, dict, str]:
        arguments = ["video", tmp_path / clip, *options, "--no-film", "--focal-px", "400", "--detector", "knows"]
        code = main([str(a) for a in (*arguments, "-o", tmp_path / "out")])
        return code, json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"][0], capsys.readouterr().err

    code, entry, told = run("other.mp4", "--masks", tmp_path)
    assert code == 1
    assert entry["status"] == "error"
    assert "no masks of other.mp4; name them other_000123.png" in told
    alone = run("other.mp4")[1]
    (tmp_path / "other.mp4").rename(tmp_path / "clip.mp4")
    code, entry, _ = run("clip.mp4", "--masks", tmp_path)
    assert code == 0
    assert entry["mask_notes"] == {EMPTY: 1}
    model = bodyfit.load_model()
    shapes = [torch.tensor([e["people"][0]["betas"]]) for e in (entry, alone)]
    wide, mean, true = (float(m.waist / m.height) for m in map(model.measure, (*shapes, betas)))
    assert abs(wide - true) < 0.95 * abs(mean - true)
    assert "mask_notes" not in alone
    (tmp_path / "clip_000005.png").unlink()
    code, _, told = run("clip.mp4", "--masks", tmp_path, "--start", 0.5)
    assert code == 1
    assert "its masks are of frames 0 to 4, and of clip.mp4 frames 5 to 5 are read" in told


def test_frames_of_a_clip_and_pictures_get_their_own_masks(frame, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    put(masks / "a.png", 255 * box(30, 45).astype(np.uint8))
    put(masks / "turn_000007.png", 255 * box(80, 45).astype(np.uint8))
    files, clip = MaskFiles(masks), tmp_path / "turn.mp4"
    of_clip = [DetectedFrame(replace(FRAME, path=clip, index=i), [RIGHT], 0, clip) for i in (7, 9)]
    seen = with_mask_files([DetectedFrame(frame, [LEFT]), *of_clip], files)
    check([seen[0].people[0].mask, seen[1].people[0].mask], [box(30, 45), box(80, 45)])
    assert seen[2].people[0].mask is None
    assert with_mask_files(of_clip, None) == of_clip
    other = [replace(one, clip=tmp_path / "walk.mp4") for one in of_clip]
    with pytest.raises(ImageError, match=r"has no masks of walk\.mp4"):
        with_mask_files(other, files)
