"""Write a folder of results as one self-contained HTML page: pictures, numbers and interactive bodies."""

from __future__ import annotations

import base64
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8

import bodyfit
from bodyfit.app.results.bodies import Models, PersonFigures, numbers
from bodyfit.app.results.find import Person
from bodyfit.app.results.folder import Results, ResultScene
from bodyfit.body.files.archive import asset_path
from bodyfit.errors import ImageError
from bodyfit.geometry.camera import flip_yz
from bodyfit.images.frame import IMAGE_SUFFIXES, read_image
from bodyfit.io import write_atomically
from bodyfit.render import person_color
from bodyfit.report.pack import deflate, jpeg_within, pack_integers, pack_points
from bodyfit.report.shape import measurement_table, read_measurements
from bodyfit.report.words import card, failures, overview
from bodyfit.runtime.file_names import as_text
from bodyfit.runtime.json_text import json_text

__all__ = ["page", "write_page"]

_STEP_M, _CLIP_STEP_M = 1e-4, 5e-4
"""Quantisation of vertices: 0.1 mm, or 0.5 mm for clips, which have many poses."""
_POSES, _FEWEST, _MOST = 60, 4, 24
"""Poses of all clips together, and the bounds for one person."""
_PICTURE_BYTES, _ONE_PICTURE = 4_500_000, (40_000, 700_000)
"""Bytes of all pictures together, and the bounds for one; base64 adds a third."""
_FILM_BYTES = 2_500_000
"""Most bytes of videos in the page."""
_POLICY = (
    "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline' blob:"
)
"""Content security policy: the page loads nothing, so that it works offline and contacts no server."""


def write_page(results: Results, path: str | Path, *, title: str | None = None, models: Models | None = None) -> int:
    """Write the page and return its size in bytes.

    Raises `OutputError`, and `AssetError` where a body model that results name is missing or measurements are damaged.
    """
    text = as_text(page(results, title=title, models=models)).encode()
    with write_atomically(path) as temporary:
        temporary.write_bytes(text)
    return len(text)


def page(results: Results, *, title: str | None = None, models: Models | None = None) -> str:
    """Make the page as HTML. Raises `AssetError`."""
    models = models or Models()
    title = title or results.folder.resolve().name or "results"
    clips = sum(person.fps > 0 for scene in results.scenes for person in scene.people)
    poses = min(max(_POSES // max(clips, 1), _FEWEST), _MOST)
    data: dict[str, Any] = {"modules": _modules(), "meshes": {}, "bodies": []}
    figures = [
        tuple(
            _add_person(person, rows, models, data)
            for person, rows in zip(scene.people, _rows(scene, poses), strict=True)
        )
        for scene in results.scenes
    ]
    pictures = _Pictures(results)
    sections = [
        _section(f"s{i}", scene, people, pictures)
        for i, (scene, people) in enumerate(zip(results.scenes, figures, strict=True))
    ]
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="generator" content="bodyfit {bodyfit.__version__}">
<title>{escape(title)} · bodyfit</title>
<style>
{_beside("page.css")}</style>
<noscript><style>.compare input, figcaption, .tools {{ display: none; }}</style></noscript>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p class="meta">{escape(_about(results))}</p>
<p class="note" id="no-3d"><noscript>Without JavaScript the bodies stand still; the numbers are all here.</noscript></p>
</header>
{_shape(results, pictures)}{overview(results, figures)}
{"".join(sections)}
{failures(results.failures)}
<footer class="note">Made by bodyfit {bodyfit.__version__} on {datetime.now():%Y-%m-%d %H:%M}. A height
and a distance from one picture are as good as its focal length. 3D by three.js, Copyright 2010-2026 three.js authors,
MIT licence.</footer>
</main>
<!-- three.js, which this page holds in part:
{asset_path("web", "LICENSE").read_text(encoding="utf-8")}-->
<script type="application/json" id="bodyfit-data">{_json(data)}</script>
<script type="module">
{_beside("page.js")}</script>
</body>
</html>
"""


def _json(data: dict[str, Any]) -> str:
    """Encode JSON that cannot close its script element."""
    return json_text(data, indent=None, ascii_only=True).replace("<", "\\u003c")


def _about(results: Results) -> str:
    """Describe the results and their origin in a line."""
    people = sum(len(scene.people) for scene in results.scenes)
    clips = sum(scene.fps > 0 for scene in results.scenes)
    pictures = len(results.scenes) - clips
    parts = [_count(people, "person", "people")]
    parts[0] += " in " + " and ".join(
        _count(n, *words) for n, words in ((pictures, ("picture", "pictures")), (clips, ("clip", "clips"))) if n
    )
    summary = results.summary
    parts += [f"{key} {summary[key]}" for key in ("model", "detector") if summary.get(key)]
    if summary.get("bodyfit"):
        parts.append(f"fitted by bodyfit {summary['bodyfit']}")
    return " · ".join(parts)


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"


def _rows(scene: ResultScene, poses: int) -> list[list[int]]:
    """Choose the rows of each person's result to show: for a clip about `poses` frames, the same for all people."""
    usable = [[i for i, status in enumerate(p.result.status) if status.ok] or [0] for p in scene.people]
    if scene.fps == 0:
        return [rows[:1] for rows in usable]
    frames = sorted({int(p.frames[i]) for p, rows in zip(scene.people, usable, strict=True) for i in rows})
    chosen = {frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(poses, len(frames)))}
    return [
        [i for i in rows if int(p.frames[i]) in chosen] or rows[len(rows) // 2 :][:1]
        for p, rows in zip(scene.people, usable, strict=True)
    ]


def _add_person(person: Person, rows: list[int], models: Models, data: dict[str, Any]) -> PersonFigures:
    """Compute a person's numbers and add the body to the page's data."""
    model, result = models.of(person.result), person.result
    vertices = models.vertices(person, rows)
    figures = numbers(person, model, vertices, rows)
    if not bool(torch.isfinite(vertices).all()):  # a failed fit has numbers and no body
        return PersonFigures(person, figures, -1, person_color(person.number))
    mesh = f"{model.name}, {len(model.v_template)} vertices"
    data["meshes"].setdefault(mesh, pack_integers(model.faces.cpu().numpy()))
    clip = person.fps > 0
    color = person_color(person.number)
    data["bodies"].append(
        {
            "mesh": mesh,
            "points": pack_points(flip_yz(vertices).cpu().numpy(), _CLIP_STEP_M if clip else _STEP_M),
            "joints": np.round(flip_yz(result.joints[rows]).numpy().astype(np.float64), 4).tolist(),
            "parents": list(model.skeleton.parents),
            "radii": [round(figures.joints_sd_m.get(name, 0.0), 4) for name in model.skeleton.names],
            "color": color,
            "eye": [0, 0, 0],
            "frames": person.frames[rows].tolist() if clip else [],
        }
    )
    return PersonFigures(person, figures, len(data["bodies"]) - 1, color)


class _Pictures:
    """Encodes pictures as data URLs, each within its share of the bytes."""

    def __init__(self, results: Results) -> None:
        pictures = sum((s.overlay is not None) + (s.source is not None) for s in results.scenes)
        low, high = _ONE_PICTURE
        self._share = min(max(_PICTURE_BYTES // max(pictures, 1), low), high)
        self._films = _FILM_BYTES

    def jpeg(self, image: UInt8[np.ndarray, "H W 3"], share: float = 1.0) -> str:
        data = jpeg_within(image, int(self._share * share))
        return f"data:image/jpeg;base64,{base64.b64encode(data).decode('ascii')}"

    def film(self, path: Path) -> str | None:
        """Encode a video, None where the page has too many bytes of videos."""
        if (size := path.stat().st_size) > self._films:
            return None
        self._films -= size
        return f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"

    def read(self, path: Path | None, notes: list[str]) -> UInt8[np.ndarray, "H W 3"] | None:
        """Read a picture; None for a clip or no file, and, with a note, where it cannot be read."""
        if path is None or path.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        try:
            return read_image(path).image
        except ImageError as fault:
            notes.append(str(fault))
            return None


def _shape(results: Results, pictures: _Pictures) -> str:
    """Make the section of the shape that all pictures share, where `bodyfit shape` measured one."""
    record = read_measurements(results.folder)
    if record is None:
        return ""
    path = results.folder / "body.png"
    body = pictures.read(path, []) if path.is_file() else None
    figure = ""
    if body is not None:
        source = pictures.jpeg(body, 0.2)
        figure = (
            f'<figure><img {_size_attributes(body)} alt="The body in A-pose, front and side" src="{source}"></figure>'
        )
    table = f"<div>{measurement_table(record)}</div>"
    return f'<section id="shape"><h2>Shape</h2><div class="shape">{figure}{table}</div></section>\n'


def _section(name: str, scene: ResultScene, people: tuple[PersonFigures, ...], pictures: _Pictures) -> str:
    """Make the section of a result: picture and people."""
    notes = list(scene.notes)
    figure = _figure(scene, pictures, notes) + _insets(scene, pictures, notes) + _silhouettes(scene, pictures, notes)
    cards = [card(one, _poster(one, pictures, notes), scene) for one in people]
    bodies = [str(one.index) for one in people if one.index >= 0]
    if len(bodies) > 1:
        cards.append(card(None, None, scene, bodies=" ".join(bodies)))
    paragraphs = "".join(f'<p class="note">{escape(note)}</p>\n' for note in notes)
    return f"""<section id="{name}">
<h2>{escape(scene.name)}</h2>
{figure}{paragraphs}<div class="people">
{"".join(cards)}</div>
</section>
"""


def _figure(scene: ResultScene, pictures: _Pictures, notes: list[str]) -> str:
    """Make the figure: the overlay, with the photograph if available; for a clip, the video if it is small."""
    if scene.overlay is not None and scene.overlay.suffix == ".mp4":
        film = pictures.film(scene.overlay)
        if film is None:
            notes.append(f"{scene.overlay.name} is too large for this page")
            return ""
        return f'<figure><video controls loop muted src="{film}"></video></figure>\n'
    over, photo = pictures.read(scene.overlay, notes), pictures.read(scene.source, notes)
    if over is None:
        return ""
    alt = escape(f"The bodies over {scene.name}")
    image = f'<img {_size_attributes(over)} alt="{alt}" src="{pictures.jpeg(over)}"'
    if photo is None or photo.shape != over.shape:
        return f'<figure><div class="frame">{image}></div></figure>\n'
    slider = '<input type="range" min="0" max="100" value="100" step="0.1" aria-label="How much of the overlay shows">'
    return f"""<figure><div class="frame compare">
<img {_size_attributes(photo)} alt="The photograph" src="{pictures.jpeg(photo)}">
{image} class="over">{slider}</div>
<figcaption>Pull the slider to see the photograph without the bodies.</figcaption></figure>
"""


def _insets(scene: ResultScene, pictures: _Pictures, notes: list[str]) -> str:
    """Make the figure of hands and faces in close-up, where it lies beside the overlay."""
    path = None if scene.overlay is None else scene.overlay.with_name("insets.png")
    if path is None or not path.is_file() or (near := pictures.read(path, notes)) is None:
        return ""
    alt = escape(f"Faces and hands of {scene.name} from near, without and with the bodies")
    size, data = _size_attributes(near), pictures.jpeg(near, 0.5)
    return f'<figure><img class="insets" {size} alt="{alt}" src="{data}"></figure>\n'


def _silhouettes(scene: ResultScene, pictures: _Pictures, notes: list[str]) -> str:
    """Make the figure of masks against bodies, where it lies beside the overlay."""
    path = None if scene.overlay is None else scene.overlay.with_name("silhouettes.png")
    if path is None or not path.is_file() or (image := pictures.read(path, notes)) is None:
        return ""
    alt = escape(f"Masks and bodies of {scene.name}")
    size, data = _size_attributes(image), pictures.jpeg(image, 0.3)
    return (
        f'<figure><img {size} alt="{alt}" src="{data}"><figcaption>White: the edge of the mask. Orange: mask without '
        "body, as of clothes and hair. Blue: body without mask.</figcaption></figure>\n"
    )


def _size_attributes(image: Float[np.ndarray, "H W 3"] | UInt8[np.ndarray, "H W 3"]) -> str:
    return f'width="{image.shape[1]}" height="{image.shape[0]}"'


def _poster(one: PersonFigures, pictures: _Pictures, notes: list[str]) -> str | None:
    """Return the picture that is displayed before a body is drawn, or where it cannot be."""
    path = one.person.file.with_name(f"person{one.person.number}_side.png")
    side = pictures.read(path, notes) if path.is_file() else None
    return None if side is None else pictures.jpeg(side, 0.1)


def _modules() -> dict[str, str]:
    """Return three.js's modules, deflated to an eighth of their text."""
    names = {"core": "three.core.min.js", "three": "three.module.min.js", "controls": "controls/OrbitControls.js"}
    return {name: deflate(asset_path("web", *file.split("/")).read_bytes()) for name, file in names.items()}


def _beside(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
