"""Clips whose keypoints other programs found: which frame is whose, who is who, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import bodyfit
from bodyfit.app.video import watch_clip
from bodyfit.cli.main import main
from bodyfit.cli.support.clip_files import ClipFiles
from bodyfit.errors import KeypointFileError, OptionError
from bodyfit.io import ClipKeypoints, VideoReader, VideoWriter, load_keypoints, load_track, save_keypoints
from bodyfit.keypoints import Keypoints2D, convert_keypoints
from bodyfit.tracker import Sighting, Tracker, TrackerConfig, trails

SIZE, FPS, N = (320, 240), 15.0, 18
_STANDING = [
    *[(0, -72), (3, -75), (-3, -75), (7, -73), (-7, -73), (19, -54), (-19, -54), (26, -28), (-26, -28)],
    *[(29, -4), (-29, -4), (11, 0), (-11, 0), (13, 42), (-13, 42), (14, 82), (-14, 82)],
]
"""Somebody who faces the camera: COCO's points about the hips, pixels."""


def walker(i: int, who: int) -> np.ndarray:
    """(17, 3): one person walks to the right, the other to the left, past each other."""
    x = 60 + 200 * i / (N - 1)
    hips = np.array([x if who == 0 else SIZE[0] - x, 125 - 10 * who])
    xy = np.array(_STANDING) + hips
    return np.concatenate([xy, np.full((17, 1), 0.9)], 1).astype(np.float32)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "walk.mp4"
    with VideoWriter(path, SIZE, FPS) as film:
        for i in range(N):
            film.write(np.full((SIZE[1], SIZE[0], 3), 60 + i, np.uint8))
    return path


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def openpose(folder: Path, *, name: str = "walk", first: int = 0, every: int = 1, people: int = 2) -> Path:
    """What OpenPose's --write_json leaves of the clip."""
    for i in range(0, N, every):
        one = [convert_keypoints(walker(i, who), "coco17", "openpose25")[0] for who in range(people)]
        persons = [{"person_id": [-1], "pose_keypoints_2d": xyc.ravel().tolist()} for xyc in one]
        write(folder / f"{name}_{i + first:012d}_keypoints.json", {"version": 1.3, "people": persons})
    return folder


def coco(path: Path, ids: str | None = None, numbers: bool = True) -> Path:
    """COCO results, people in another order each frame; `ids` is the key of their numbers."""
    results = []
    for i in range(N):
        for who in (0, 1) if i % 2 else (1, 0):
            xyc = walker(i, who) - np.array((0.5, 0.5, 0), np.float32)
            entry = {"image_id": i if numbers else f"{i}.jpg", "category_id": 1, "score": 1.0}
            results.append(entry | {"keypoints": xyc.ravel().tolist()} | ({ids: 7 + who} if ids else {}))
    return write(path, results)


def watched(clip: Path, files: Path, *, tracker: TrackerConfig | None = None, **part):
    first = part.pop("first_frame", None)
    found = ClipKeypoints(load_keypoints(files), clip, first_frame=first)
    return watch_clip(VideoReader(clip, max_side_px=32, **part), found, tracker=tracker)


def check_walkers(seen, layout: str = "coco17") -> None:
    """Two people, each where one of the two walks in every frame; the larger number starts where it should."""
    assert len(seen.trails) == 2
    for trail in seen.trails:
        who = int(trail.people[0].xyc[0, 0] > SIZE[0] / 2)
        for frame, person in zip(trail.frames, trail.people, strict=True):
            want = convert_keypoints(walker(frame, who), "coco17", layout)[0]
            np.testing.assert_allclose(person.xyc, want, atol=1e-4)


# ---------------------------------------------------------------- which frame


def test_openposes_folder_is_the_clip(clip, tmp_path):
    seen = watched(clip, openpose(tmp_path / "o"))
    check_walkers(seen, "openpose25")
    assert all(trail.frames == list(range(N)) for trail in seen.trails)
    assert seen.size == SIZE  # pixels of the clip, however small the frames that told the time


@pytest.mark.parametrize("numbers", [True, False])
def test_coco_by_number_and_by_name(clip, tmp_path, numbers):
    check_walkers(watched(clip, coco(tmp_path / "r.json", numbers=numbers)))


def test_our_npz_and_our_tracks(clip, tmp_path):
    people = {
        f"walk_{i:04d}.png": [Keypoints2D("coco17", walker(i, who), track=who) for who in (0, 1)] for i in range(N)
    }
    save_keypoints(tmp_path / "k.npz", people)
    seen = watched(clip, tmp_path / "k.npz")
    check_walkers(seen)
    again = load_keypoints(tmp_path / "k.npz").entries[3].people
    assert [person.track for person in again] == [0, 1]


def test_parts_and_steps_take_their_frames(clip, tmp_path):
    seen = watched(clip, openpose(tmp_path / "o"), start_s=0.2, end_s=0.9, stride=2)
    assert seen.trails[0].frames == [3, 5, 7, 9, 11, 13]
    check_walkers(seen, "openpose25")


def test_files_of_every_third_frame_lose_nobody(clip, tmp_path):
    """A frame that the files do not have is no frame without people."""
    seen = watched(clip, openpose(tmp_path / "o", every=3))
    check_walkers(seen, "openpose25")
    assert seen.trails[0].frames == list(range(0, N, 3))
    assert len(seen.frames) == N


def test_the_first_frame_may_be_one(clip, tmp_path):
    files = openpose(tmp_path / "o", first=1)
    check_walkers(watched(clip, files, first_frame=1), "openpose25")
    with pytest.raises(KeypointFileError, match=r"frames 1 to 18, but .*walk.mp4 ends with frame 17; .*first_frame=1"):
        watched(clip, files)


def test_files_of_several_clips_in_one_folder(clip, tmp_path, capsys):
    openpose(tmp_path / "o")
    openpose(tmp_path / "o", name="other", first=3)
    found = ClipKeypoints(load_keypoints(tmp_path / "o"), clip)
    assert sorted(found.by_frame) == list(range(N))
    assert len(found.unused) == N
    ClipFiles(tmp_path / "o", None, None, [clip])(clip)
    assert f"note: {N} entries match no frame of walk.mp4: other_" in capsys.readouterr().err
    with pytest.raises(KeypointFileError, match=r"two entries are of frame 3 of third\.mp4"):
        ClipKeypoints(load_keypoints(tmp_path / "o"), Path("third.mp4"))


def test_a_folder_called_after_the_clip_is_its_own(clip, tmp_path):
    """Pose2Sim's CAM_json beside those of other cameras."""
    openpose(tmp_path / "walk_json")
    openpose(tmp_path / "cam2_json", name="cam2")
    found = ClipFiles(tmp_path, None, None, [clip])(clip)
    assert sorted(found.by_frame) == list(range(N))
    assert {entry.path.parent.name for entry in found.by_frame.values()} == {"walk_json"}


# ---------------------------------------------------------------- who


@pytest.mark.parametrize("ids", ["track_id", "idx"])
def test_people_keep_the_numbers_of_the_file(clip, tmp_path, ids):
    files = coco(tmp_path / "r.json", ids=ids)
    check_walkers(watched(clip, files))
    for entry in load_keypoints(files).entries:
        who = {person.track: person.xyc[0, 0] for person in entry.people}
        np.testing.assert_allclose([who[7], who[8]], [walker(int(entry.name), i)[0, 0] for i in (0, 1)], atol=1e-4)


def test_numbers_of_a_file_go_before_places():
    """Two who swap places from frame to frame are still who they are said to be."""
    tracker = Tracker()
    for i in range(6):
        a, b = (walker(0, 0), walker(0, 1)) if i % 2 else (walker(0, 1), walker(0, 0))
        tracker.update(Sighting(i, i / FPS, (Keypoints2D("coco17", a, track=4), Keypoints2D("coco17", b, track=9))))
    assert [len(trail.frames) for trail in tracker.trails] == [6, 6]


def test_one_number_for_two_is_one_persons():
    tracker = Tracker()
    both = tuple(Keypoints2D("coco17", walker(0, who), track=4) for who in (0, 1))
    assert len(set(tracker.update(Sighting(0, 0.0, both)))) == 2
    assert len(set(tracker.update(Sighting(1, 1 / FPS, both)))) == 2


def test_after_too_long_a_gap_a_number_is_a_new_person():
    times = [*np.arange(10) / FPS, *(5 + np.arange(10) / FPS)]
    seen = [Sighting(i, float(t), (Keypoints2D("coco17", walker(0, 0), track=1),)) for i, t in enumerate(times)]
    assert len(trails(seen, TrackerConfig(max_gap_s=2.0))) == 2
    assert len(trails(seen, TrackerConfig(max_gap_s=9.0))) == 1


# ---------------------------------------------------------------- what is refused


def test_keypoints_of_another_clip_are_refused(clip, tmp_path):
    with pytest.raises(
        KeypointFileError, match=r"frames 100 to 117, but .* ends with frame 17; give the clip of these$"
    ):
        watched(clip, openpose(tmp_path / "late", first=100))
    with pytest.raises(KeypointFileError, match="none of the frames 0 to 2"):
        watched(clip, openpose(tmp_path / "late", first=100), end_s=0.2)
    write(tmp_path / "named" / "portrait_keypoints.json", {"people": []})
    content = json.loads((tmp_path / "late" / "walk_000000000100_keypoints.json").read_text())
    write(tmp_path / "named" / "portrait_keypoints.json", content)
    with pytest.raises(KeypointFileError, match="portrait has no number"):
        watched(clip, tmp_path / "named")


def test_keypoints_of_another_size_are_refused(clip, tmp_path):
    files = openpose(tmp_path / "o", people=1)
    for path in files.iterdir():
        content = json.loads(path.read_text())
        xyc = np.array(content["people"][0]["pose_keypoints_2d"]).reshape(-1, 3) * (6, 6, 1)
        write(path, {"people": [{"pose_keypoints_2d": xyc.ravel().tolist()}]})
    with pytest.raises(KeypointFileError, match=r"keypoints of 18 frames lie outside of the picture, which is 320x240"):
        watched(clip, files)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 240, "height": 320} for i in range(3)]
    with pytest.raises(KeypointFileError, match=r"240x320 there, but the picture is 320x240 \(its file turns it"):
        watched(clip, write(tmp_path / "a.json", {"images": images, "annotations": []}))


def test_a_frame_of_another_size_costs_that_frame(clip, tmp_path):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 320 + (i == 4), "height": 240} for i in range(N)]
    annotations = [
        {"id": 2 * i + who, "image_id": i, "keypoints": (walker(i, who) - (0.5, 0.5, -1.1)).ravel().tolist()}
        for i in range(N)
        for who in (0, 1)
    ]
    files = load_keypoints(write(tmp_path / "a.json", {"images": images, "annotations": annotations}))
    found = ClipKeypoints(files, clip)
    seen = watch_clip(VideoReader(clip, max_side_px=32), found)
    assert [trail.frames for trail in seen.trails] == [[i for i in range(N) if i != 4]] * 2
    (fault,) = found.faults
    assert "4.jpg is 321x240 there, but the picture is 320x240" in fault


def test_a_frame_after_the_end_is_left_out(clip, tmp_path):
    files = openpose(tmp_path / "o")
    last = (files / f"walk_{N - 1:012d}_keypoints.json").read_text()
    write(files / f"walk_{N:012d}_keypoints.json", json.loads(last))
    found = ClipKeypoints(load_keypoints(files), clip)
    seen = watch_clip(VideoReader(clip, max_side_px=32), found)
    assert seen.trails[0].frames == list(range(N))
    assert f"has frames 0 to {N}, but {clip} ends with frame {N - 1}; those after it are left out" in found.faults[0]


def test_contradictions_are_told(clip, tmp_path):
    with pytest.raises(OptionError, match="take the place of a detector"):
        bodyfit.fit_video(clip, detector="mediapipe", keypoints=tmp_path)
    with pytest.raises(OptionError, match="first_frame is of keypoints"):
        bodyfit.fit_video(clip, first_frame=1)


# ---------------------------------------------------------------- the command


def test_the_command_fits_what_the_files_say(clip, tmp_path, capsys):
    files = coco(tmp_path / "results.json", ids="track_id")
    out = tmp_path / "out"
    assert main(["video", str(clip), "--keypoints", str(files), "-o", str(out), "--no-film"]) == 0
    assert "2 people in 18 frames" in capsys.readouterr().out
    track = load_track(out / "walk" / "person0.npz")
    who = int(track.result.keypoints[0, 0, 0] > SIZE[0] / 2)
    np.testing.assert_allclose(track.result.keypoints[5], walker(5, who), atol=1e-4)
    summary = json.loads((out / "summary.json").read_text())
    assert summary["detector"] == f"keypoints {files}"
    # What it wrote is such a file, too.
    again = watched(clip, out / "walk")
    check_walkers(again)
    entries = load_keypoints(out / "walk").entries
    assert {person.track for entry in entries for person in entry.people} == {0, 1}


def test_faults_cost_a_person_and_the_exit_code(clip, tmp_path, capsys):
    files = openpose(tmp_path / "walk", people=1)
    content = {"people": [{"pose_keypoints_2d": [1.0]}]}
    write(files / "walk_000000000005_keypoints.json", content)
    (files / "walk_000000000006_keypoints.json").write_text("{")
    assert main(["video", str(clip), "--keypoints", str(tmp_path), "-o", str(tmp_path / "out"), "--no-film"]) == 1
    err = capsys.readouterr().err
    assert "walk_000000000005_keypoints.json: person 0: pose_keypoints_2d: 1 values" in err
    assert "walk_000000000006_keypoints.json: is no complete JSON" in err
    (entry,) = json.loads((tmp_path / "out" / "summary.json").read_text())["inputs"]
    assert (entry["status"], len(entry["faults"]), entry["people"][0]["gaps"]) == ("ok", 2, [[5, 6]])


def test_wrong_use_of_the_command_is_told(clip, tmp_path, capsys):
    def told(*options: object) -> str:
        assert main(["video", str(clip), "-o", str(tmp_path / "out"), *map(str, options)]) == 2
        return capsys.readouterr().err

    assert "--keypoints" in told("--keypoints", tmp_path / "gone")
    assert "leave --detector out" in told("--keypoints", tmp_path, "--detector", "mediapipe")
    assert "--first-frame is of the files" in told("--first-frame", 1)
    assert "--tta is for pictures" in told("--tta")
    one = coco(tmp_path / "one.json")
    assert "one file for 2 clips" in told(clip, "--keypoints", one)
    assert not (tmp_path / "out").exists()
