"""A clip: follow people through it, fit each one's motion as a whole, write an animation and a film.

    python scripts/examples/clip.py [OUT [CLIP]]

Without a clip of yours, a window that moves over a photograph of two people makes one of a second and a half.
"""

import sys
from pathlib import Path

import numpy as np

import bodyfit
from bodyfit import render
from bodyfit.io import VideoWriter

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


def sample_clip(path: Path, frames: int = 16, fps: float = 10.0) -> Path:
    """A clip that pans over a photograph, 8 px a frame."""
    image = bodyfit.read_image(SAMPLES / "street_two_people.jpg").image
    height, width = image.shape[0], image.shape[1] - 8 * frames
    with VideoWriter(path, (width, height), fps=fps) as clip:
        for i in range(frames):
            clip.write(np.ascontiguousarray(image[:, 8 * i : 8 * i + width]), i / fps)
    return path


def main(out: Path, clip: Path | None = None, frames: int = 16) -> None:
    model = bodyfit.load_model("open")
    tracks = bodyfit.fit_video(clip or sample_clip(out / "clip.mp4", frames), model=model)
    for track in tracks:
        seconds = track.times_s[-1] - track.times_s[0]
        print(f"person {track.id}: {len(track)} frames, {seconds:.1f} s, seen in {int(track.seen.sum())}")
        bodyfit.export(track, out / f"person{track.id}.glb")  # an animation; .bvh and .usd, too
        bodyfit.save_track(track, out / f"person{track.id}.npz")

    vertices = model(**tracks[0].result.params).vertices  # (frames, vertices, 3)
    stage = render.Stage.around(vertices, view="side", size=(480, 640))
    with VideoWriter(out / "side.mp4", (480, 640), fps=10.0) as film:
        for frame, time_s in zip(vertices, tracks[0].times_s - tracks[0].times_s[0], strict=True):
            film.write(stage.draw([(frame, render.person_color(0))], model.faces, rays=24), float(time_s))


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/clip")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder, Path(sys.argv[2]) if len(sys.argv) > 2 else None)
