"""One picture's results as pictures and maps on the disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bodyfit import io, render
from bodyfit.app.avatars.drawn import avatar_paint, checked_avatar
from bodyfit.app.results.bodies import Models
from bodyfit.app.results.find import Failure, ResultFiles
from bodyfit.avatars import Avatar
from bodyfit.body.model import BodyModel
from bodyfit.errors import AssetError, OptionError
from bodyfit.fit.result import FitResult, FitStatus
from bodyfit.geometry.camera import Camera
from bodyfit.images.frame import read_image

__all__ = ["Drawer"]

_SHEET_PX = 360
"""Height of the pictures on a contact sheet."""


@dataclass(frozen=True)
class _People:
    """Who can be drawn of one picture."""

    numbers: tuple[int, ...]
    results: tuple[FitResult, ...]
    model: BodyModel
    bodies: tuple[tuple[Tensor, render.Paint], ...]
    joints: tuple[Tensor, ...]
    camera: Camera

    def poor(self) -> list[int]:
        """Places of those who are hatched."""
        return [i for i, result in enumerate(self.results) if result.status[0] is FitStatus.POOR]


@dataclass
class Drawer:
    """What is drawn of every picture, and the models and textures that were loaded for it."""

    out: Path
    """Folder of the pictures."""
    single: Path | None
    """The one file to write instead."""
    views: tuple[str, ...]
    maps: tuple[str, ...]
    npy: bool
    """Maps as arrays."""
    skeleton: bool
    keypoints: bool
    opacity: float
    size: tuple[int, int] | None
    """Of views in the studio."""
    grid_m: float | None
    frames: int
    texture: Path | None
    models: Models
    """Those of the results."""
    avatar: Avatar | None = None
    """Whose surface and colours the bodies have."""
    cloths: dict[Path, np.ndarray] = field(default_factory=dict)
    """Read already."""

    def folder(self, found: ResultFiles) -> Path:
        """Where a picture's files go."""
        return self.out / found.name if self.single is None else self.single

    def draw(self, found: ResultFiles, rows: list[Any]) -> dict[str, Any]:
        """Write a picture's files and return what is to be said of them; its row of the sheet joins `rows`."""
        fitted = _fitted(found)
        notes = [{"person": n, "reason": f"its fit is {r.status[0].value}"} for n, r in fitted if not r.status[0].ok]
        people = self._people(found, [(n, r) for n, r in fitted if r.status[0].ok])
        files: list[Path] = []
        if people is not None:
            reasons = render.undrawn(people.bodies, people.camera)
            notes += [{"person": n, "reason": r} for n, r in zip(people.numbers, reasons, strict=True) if r]
            files += self._over_photo(found, people, rows)
            files += [
                self._studio(found, view, people) for view in self.views if view in ("front", "side", "top", "turn")
            ]
            files += self._save_maps(found, people)
        lost = people is None or len(notes) == len(fitted)
        return {
            "name": found.name,
            "status": "failed" if lost else "ok",
            "message": "nobody in it can be drawn" if lost else None,
            "photo": found.source,
            "people": list(people.numbers) if people is not None else [],
            "not_drawn": notes,
            "files": files,
        }

    def _over_photo(self, found: ResultFiles, people: _People, rows: list[Any]) -> list[Path]:
        """Write what is drawn over the photograph."""
        if not any(view in ("overlay", "insets", "sheet") for view in self.views):
            return []
        image, files = self._photo(found, people.camera.image_size), []
        if "insets" in self.views:
            files.append(self._save(found, "insets.png", self._insets(image, people)))
        if "overlay" in self.views or "sheet" in self.views:
            overlay = self._overlay(image, people)
            if "overlay" in self.views:
                files.append(self._save(found, "overlay.png", overlay))
            if "sheet" in self.views:
                rows.append(self._row(image, overlay, people))
        return files

    def sheet(self, rows: list[Any], number: int) -> Path:
        """Write a contact sheet and return its path."""
        name = "sheet.png" if number == 0 else f"sheet_{number + 1}.png"
        path = self.out / name if self.single is None else self.single.with_stem(self.single.stem + name[5:-4])
        widths = [max(row[k].shape[1] for row in rows) for k in range(len(rows[0]))]
        lines = []
        for row in rows:
            line = np.full((_SHEET_PX, sum(widths) + 8 * (len(widths) - 1), 3), 255, np.uint8)
            for k, cell in enumerate(row):
                x = sum(widths[:k]) + 8 * k + (widths[k] - cell.shape[1]) // 2
                line[:, x : x + cell.shape[1]] = cell
            lines.append(line)
        io.save_picture(path, render.contact_sheet(lines, columns=1))
        return path

    def _people(self, found: ResultFiles, fitted: list[tuple[int, FitResult]]) -> _People | None:
        if not fitted:
            return None
        models = [self.models.of(result) for _, result in fitted]
        if any(not torch.equal(m.faces, models[0].faces) for m in models):
            names = ", ".join(sorted({result.model_name for _, result in fitted}))
            raise OptionError(f"its people have meshes of different models ({names}); draw them one by one")
        if self.avatar is not None:
            models = [checked_avatar(self.avatar, model).model for model in models]
        paints = [self._paint(number, model) for (number, _), model in zip(fitted, models, strict=True)]
        params = [result.params if self.avatar is None else self.avatar.posed(result.params) for _, result in fitted]
        with torch.no_grad():
            cameras = [result.camera.to_draw() for _, result in fitted]
            outs = [model(**body) for body, model in zip(params, models, strict=True)]
        return _People(
            numbers=tuple(number for number, _ in fitted),
            results=tuple(result for _, result in fitted),
            model=models[0],
            bodies=tuple((out.vertices[0], paint) for out, paint in zip(outs, paints, strict=True)),
            joints=tuple(out.joints[0] for out in outs),
            camera=Camera.cat(cameras, cameras[0].image_size),
        )

    def _paint(self, number: int, model: BodyModel) -> render.Paint:
        if self.avatar is not None:
            return avatar_paint(self.avatar)
        if self.texture is None:
            return render.person_color(number)
        if model.uv is None or model.uv_faces is None:
            raise OptionError(f"--texture needs texture coordinates, which the model {model.name} does not have")
        if self.texture not in self.cloths:
            self.cloths[self.texture] = read_image(self.texture).image
        return render.Texture(self.cloths[self.texture], model.uv, model.uv_faces)

    def _photo(self, found: ResultFiles, size: tuple[int, int]) -> np.ndarray:
        if found.source is None:
            raise AssetError(f"nothing says which photograph {found.files[0]} is of; give --photo")
        if not found.source.is_file():
            raise AssetError(f"the photograph {found.source} is not there; give --photo")
        frame = read_image(found.source)
        if frame.size != size:
            was, now = (f"{w}x{h}" for w, h in (size, frame.size))
            raise AssetError(f"{found.source} is {now} pixels, the fit was made in a picture of {was}; give --photo")
        return frame.image

    def _overlay(self, image: np.ndarray, people: _People) -> np.ndarray:
        layouts = {result.layout for result in people.results}
        if self.keypoints and len(layouts) > 1:
            raise OptionError(f"its people's keypoints have different layouts ({', '.join(sorted(layouts))})")
        return render.overlay(
            image,
            people.bodies,
            people.model.faces,
            people.camera,
            keypoints=[self._input_keypoints(result) for result in people.results] if self.keypoints else None,
            layout=people.results[0].layout,
            joints=people.joints if self.skeleton else None,
            opacity=self.opacity,
            poor=people.poor(),
        )

    def _insets(self, image: np.ndarray, people: _People) -> np.ndarray:
        parts = render.inset_parts(people.model)
        if not parts.rows:
            raise OptionError(f"insets are of hands and faces, which {people.model.name} has not; fit open-h or open-x")
        drawn = render.draw_insets(
            image,
            people.bodies,
            people.model.faces,
            people.camera,
            parts,
            opacity=self.opacity,
            poor=people.poor(),
        )
        if drawn is None:
            raise OptionError("its hands and faces are too small for insets, or outside the picture")
        return drawn

    def _input_keypoints(self, result: FitResult) -> Tensor:
        """The keypoints of the photograph; of several cameras, those of the first."""
        keypoints = result.keypoints[0]
        return keypoints if keypoints.ndim == 2 else keypoints[0]

    def _size(self, people: _People) -> tuple[int, int]:
        return self.size or ((480, 640) if len(people.bodies) == 1 else (960, 640))

    def _studio(self, found: ResultFiles, view: str, people: _People) -> Path:
        faces, size = people.model.faces, self._size(people)
        if view == "turn":
            path = self._path(found, "turn.gif")
            pictures = render.turntable(
                people.bodies, faces, frames=self.frames, size=size, grid_m=self.grid_m, poor=people.poor()
            )
            io.save_gif(path, pictures, fps=min(max(self.frames / 3, 8.0), 25.0))
            return path
        picture = render.studio(people.bodies, faces, view=view, size=size, grid_m=self.grid_m, poor=people.poor())
        return self._save(found, f"{view}.png", picture)

    def _row(self, image: np.ndarray, overlay: np.ndarray, people: _People) -> list[np.ndarray]:
        """The photograph, the overlay, the side and the top, all of one height."""
        side = (_SHEET_PX * 3 // 4, _SHEET_PX) if len(people.bodies) == 1 else (_SHEET_PX, _SHEET_PX)
        views = [
            render.studio(people.bodies, people.model.faces, view=v, size=side, poor=people.poor())
            for v in ("side", "top")
        ]
        return [_thumbnail(image), _thumbnail(overlay), *views]

    def _save_maps(self, found: ResultFiles, people: _People) -> list[Path]:
        if not self.maps:
            return []
        faces, camera = people.model.faces, people.camera
        maps = render.draw_maps(people.bodies, faces, camera, part_weights=people.model.weights, which=self.maps)
        names = people.model.skeleton.names
        labels: dict[str, Any] = {}
        files = []
        for kind in self.maps:
            array = {"depth": maps.depth_m, "normal": maps.normal, "silhouette": maps.person, "parts": maps.part}[kind]
            assert array is not None
            if kind == "silhouette":  # people keep their numbers where one of them is not drawn
                array = np.array((0, *(n + 1 for n in people.numbers)), np.uint16)[array]
                labels[kind] = {str(n + 1): f"person{n}" for n in people.numbers}
            if kind == "parts":
                labels[kind] = {str(k + 1): name for k, name in enumerate(names)}
            path = self._path(found, f"{kind}.{'npy' if self.npy else 'png'}")
            if self.npy:
                io.save_array(path, array)
            elif kind == "depth":
                io.save_depth(path, array)
            elif kind == "normal":
                io.save_picture(path, render.normal_colors(array))
            else:
                last = int(array.max(initial=0))
                colors = (
                    [render.person_color(k) for k in range(last)]
                    if kind == "silhouette"
                    else render.part_colors(len(names))
                )
                io.save_labels(path, array, colors)
            files.append(path)
        if labels:
            files.append(self._path(found, "labels.json"))
            io.write_json(files[-1], labels)
        return files

    def _save(self, found: ResultFiles, name: str, picture: np.ndarray) -> Path:
        path = self._path(found, name)
        io.save_picture(path, picture)
        return path

    def _path(self, found: ResultFiles, name: str) -> Path:
        return self.single or self.out / found.name / name


def _fitted(found: ResultFiles) -> list[tuple[int, FitResult]]:
    """Who was fitted in a picture, in order. Raises `AssetError`."""
    people = []
    for one in found.people():
        if isinstance(one, Failure):
            raise AssetError(one.message)
        people.append((one.number, one.result))
    sizes = sorted({result.camera.image_size for _, result in people})
    if len(sizes) > 1:
        of = ", ".join(f"{w}x{h}" for w, h in sizes)
        raise AssetError(f"{found.name}: its people were fitted in pictures of different sizes ({of})")
    return people


def _thumbnail(image: np.ndarray) -> np.ndarray:
    from PIL import Image

    width = max(round(image.shape[1] * _SHEET_PX / image.shape[0]), 1)
    return np.asarray(Image.fromarray(image).resize((width, _SHEET_PX), Image.Resampling.LANCZOS, reducing_gap=3.0))
