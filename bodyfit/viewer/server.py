"""Serve an interactive viewer of results in the browser, by viser."""

from __future__ import annotations

import io
import math
import threading
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from bodyfit.app.avatars.drawn import checked_avatar
from bodyfit.app.results.bodies import Models, overall_status
from bodyfit.app.results.find import Person
from bodyfit.app.results.folder import Results, ResultScene
from bodyfit.avatars import Avatar
from bodyfit.body.model import BodyModel
from bodyfit.errors import ImageError, OptionError
from bodyfit.fit.result import FitStatus
from bodyfit.images.frame import IMAGE_SUFFIXES, read_image
from bodyfit.render import person_color
from bodyfit.runtime.file_names import as_text
from bodyfit.viewer.avatar_mesh import AvatarMesh
from bodyfit.viewer.backdrop import VIEWS, Backdrop
from bodyfit.viewer.edits import PersonEdits
from bodyfit.viewer.playback import FrameCache

if TYPE_CHECKING:
    import viser

__all__ = ["Viewer"]

_BETA_REACH = 4.0
"""Range of a beta's slider, standard deviations, extended to the fit's values."""
_EXPRESSION_REACH = 4.0
"""Range of an expression's slider, standard deviations."""
_TURN_REACH_DEG = 120.0
_STRIPE_M = 0.05
"""Width of the stripes of a poor body, and of the gaps between them."""
_PICTURE_SIDE = 1600
"""Longest side of the photographs that are sent, pixels."""


class Viewer:
    """A server of results until `stop`; its controls are attributes, so that programs can use them too.

    The world has camera axes: x right, y down, z forward, metres, the camera at the origin.
    """

    def __init__(
        self,
        results: Results,
        *,
        models: Models | None = None,
        avatar: Avatar | None = None,
        host: str = "127.0.0.1",
        port: int = 8080,
    ) -> None:
        """Start to serve, on the next free port if `port` is in use. avatar: whose surface and colours the bodies have.

        Raises `OptionError` where viser is not installed or no person has a body, and `AssetError` where a body model
        is missing.
        """
        viser = _viser()
        self.scenes = _with_bodies(results)
        """Results that can be displayed, with the people that have a body."""
        self._models = models or Models()
        model = self._models.of(self.scenes[0].people[0].result)  # raise for a missing model before the server starts
        self._avatar = None if avatar is None else checked_avatar(avatar, model)
        self._lock = threading.RLock()  # viser runs callbacks in threads of its own
        self._stopped = threading.Event()
        self.edits: list[PersonEdits] = []
        """Edits of the people of the current scene."""
        self.meshes: list[Any] = []
        """Viser's handles of the people's meshes; of a poor body stripes of it."""
        self.labels: dict[int, Any] = {}
        """Viser's handles of the labels over poor bodies, by their place in `meshes`."""
        self._about: list[Backdrop] = []
        self._film: FrameCache | None = None
        self._folders: list[Any] = []
        with redirect_stdout(io.StringIO()):  # viser prints a banner even if not verbose
            self.server: viser.ViserServer = viser.ViserServer(host, port, label="bodyfit", verbose=False)
        self.port: int = self.server.get_port()
        """The port that is used."""
        self.url = f"http://{'localhost' if host in ('127.0.0.1', '0.0.0.0') else host}:{self.port}"
        self.server.scene.set_up_direction("-y")
        self.server.gui.configure_theme(show_logo=False, show_share_button=False)
        self.server.scene.world_axes.visible = False
        names = [as_text(scene.name) for scene in self.scenes]
        labels = [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]
        self.picture = self.server.gui.add_dropdown("picture", labels, visible=len(labels) > 1)
        self.picture.on_update(lambda event: self._show(labels.index(event.target.value)))
        self._show(0)

    def _show(self, index: int) -> None:
        """Display a scene by its index."""
        with self._lock, self.server.atomic():
            self.playing = False
            self._close_film()
            for handle in (*self.meshes, *self.labels.values(), *self._about, *self._folders):
                handle.remove()
            self.scene = self.scenes[index]
            self.edits = [self._edits_of(person) for person in self.scene.people]
            self.frames = _frames(self.scene)
            self.frame = self.frames[0]
            self.meshes = [self._mesh(i, edits) for i, edits in enumerate(self.edits)]
            self.labels = {
                i: self.server.scene.add_label(f"/poor/{i}", f"person {edits.person.number}: poor")
                for i, edits in enumerate(self.edits)
                if _poor_reason(edits.person) is not None
            }
            self._notes = [*self.scene.notes, *_poor_notes(self.scene)]
            camera = self.scene.people[0].result.camera.to_draw()
            self.backdrop = Backdrop(self.server.scene, self._reach(), camera, self._photograph())
            self._about = [self.backdrop]
            source = self.scene.source
            if self.scene.fps > 0 and source is not None:
                self._film = FrameCache(source, self.frames, self._arrived, fps=self.scene.frames_fps)
            self._folders = [self._time_folder()] if len(self.frames) > 1 else []
            self._folders += [self._view_folder(), self._people_folder(), self._edit_folder()]
            self.redraw()
            self.look("front")

    def _edits_of(self, person: Person) -> PersonEdits:
        """Make the edits of a person, of the avatar's shape where there is one."""
        if self._avatar is None:
            return PersonEdits(person, self._models.of(person.result))
        avatar = checked_avatar(self._avatar, self._models.of(person.result))
        result = replace(person.result, params=avatar.posed(person.result.params))
        return PersonEdits(replace(person, result=result), avatar.model)

    def _mesh(self, index: int, edits: PersonEdits) -> Any:
        """Add a person's mesh to the scene."""
        name, vertices = f"/bodies/{index}", edits.vertices(edits.row(self.frame) or 0).numpy()
        if self._avatar is not None:
            return AvatarMesh(self.server.scene, name, self._avatar, vertices)
        return self.server.scene.add_mesh_simple(
            name,
            vertices,
            edits.model.faces.numpy() if _poor_reason(edits.person) is None else _striped(edits.model),
            color=_bytes(person_color(edits.person.number)),
            side="double",
        )

    # ------------------------------------------------------------ drawing

    def redraw(self) -> None:
        """Update the meshes to the current frame and edits."""
        with self._lock, self.server.atomic():
            for i, (edits, mesh) in enumerate(zip(self.edits, self.meshes, strict=True)):
                row = edits.row(self.frame)
                mesh.visible = edits.visible and row is not None
                if row is not None and edits.visible:
                    mesh.vertices = edits.vertices(row).numpy()
                if i in self.labels:
                    self.labels[i].visible = mesh.visible
                    self.labels[i].position = mesh.vertices[mesh.vertices[:, 1].argmin()]

    def _close_film(self) -> None:
        if self._film is not None:
            self._film.close()
        self._film = None

    def _arrived(self, frame: int) -> None:
        """Display a frame that has been decoded if it is the current one."""
        if frame == self.frame:
            with self._lock:
                self._show_frame()

    def _show_frame(self) -> None:
        if self._film is None:
            return
        picture = self._film.picture(self.frame)
        if picture is not None:  # otherwise the last one stays until this one is decoded
            self.backdrop.photograph.image = picture
        elif self._film.fault is not None:
            self.notes.content = self._film.fault

    def _reach(self) -> Float[np.ndarray, "N 3"]:
        """Return points that cover the bodies: the meshes, and the joints of all frames."""
        points = [mesh.vertices for mesh in self.meshes]
        points += [person.result.joints.reshape(-1, 3).numpy() for person in self.scene.people]
        every = np.concatenate(points)
        every = every[np.isfinite(every).all(1)]
        return every if len(every) else np.eye(3)

    def _photograph(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Return the scene's photograph, None where it is not available."""
        source = self.scene.source
        if source is None or source.suffix.lower() not in IMAGE_SUFFIXES:
            return None
        try:
            return _small(read_image(source).image)
        except ImageError as fault:  # the bodies are displayed without it
            self._notes.append(str(fault))
            return None

    # ------------------------------------------------------------ controls

    def _view_folder(self) -> Any:
        gui = self.server.gui
        with gui.add_folder("View") as folder:
            self.views = gui.add_button_group("from", VIEWS)
            self.views.on_click(lambda event: self.look(event.target.value, event.client))
            self.photograph_shown = gui.add_checkbox("photograph", True)
            self.photograph_shown.on_update(self._show_photograph)
            depth = round(self.backdrop.depth, 2)
            self.photograph_depth = gui.add_slider("its distance, m", 0.2, 2.5 * depth, 0.05, depth)
            self.photograph_depth.on_update(self._move_photograph)
            self.notes = gui.add_markdown("  \n".join(self._notes))
        return folder

    def _people_folder(self) -> Any:
        gui = self.server.gui
        self.shown: list[Any] = []
        with gui.add_folder("People") as folder:
            for edits in self.edits:
                poor = " (poor)" if _poor_reason(edits.person) is not None else ""
                box = gui.add_checkbox(f"person {edits.person.number}{poor}", True)
                box.on_update(self._setter(edits))
                self.shown.append(box)
        return folder

    def _setter(self, edits: PersonEdits) -> Callable[[Any], None]:
        def set_visible(event: Any) -> None:
            edits.visible = event.target.value
            self.redraw()

        return set_visible

    def _time_folder(self) -> Any:
        gui = self.server.gui
        with gui.add_folder("Time") as folder:
            self.time = gui.add_slider("frame", self.frames[0], self.frames[-1], self.frames.step, self.frame)
            self.time.on_update(lambda event: self.go_to(int(event.target.value)))
            self.play = gui.add_checkbox("play", False)
            self.play.on_update(lambda event: self._play(event.target.value))
        return folder

    def _edit_folder(self) -> Any:
        """Make the sliders of one person: the shape, the expression, and one joint at a time."""
        gui = self.server.gui
        with gui.add_folder("Change") as folder:
            self.who = gui.add_dropdown("person", [str(e.person.number) for e in self.edits])
            self.who.on_update(lambda _: self._fill_sliders())
            self.joint = gui.add_dropdown("joint", self.edits[0].joints, initial_value=self.edits[0].joints[0])
            self.joint.on_update(lambda _: self._fill_sliders())
            self.angles = [
                gui.add_slider(f"turn {axis}, °", -_TURN_REACH_DEG, _TURN_REACH_DEG, 1.0, 0.0) for axis in "xyz"
            ]
            reach = max([_BETA_REACH, *(math.ceil(float(e.betas.abs().nan_to_num(0).max())) for e in self.edits)])
            self.betas = [
                gui.add_slider(f"beta {i}", -reach, reach, 0.01, 0.0) for i in range(len(self.edits[0].betas))
            ]
            self.expression = [
                gui.add_slider(f"expression {i}", -_EXPRESSION_REACH, _EXPRESSION_REACH, 0.01, 0.0)
                for i in range(len(_coefficients(self.edits[0])))
            ]
            for slider in self.angles:
                slider.on_update(self._turn)
            for sliders, set_one in (
                (self.betas, PersonEdits.set_beta),
                (self.expression, PersonEdits.set_expression),
            ):
                for i, slider in enumerate(sliders):
                    slider.on_update(self._coefficient_setter(set_one, i))
            gui.add_button("Back to the fit").on_click(self._reset)
            self.save = gui.add_button_group("download", ("glb", "obj"))
            self.save.on_click(self._download)
        self._filling = False
        self._fill_sliders()
        return folder

    @property
    def chosen(self) -> PersonEdits:
        """The person that the sliders edit."""
        return next(e for e in self.edits if str(e.person.number) == self.who.value)

    def _fill_sliders(self) -> None:
        """Set the sliders to the values of the chosen person and joint, without editing."""
        with self._lock:
            edits = self.chosen
            self._filling = True
            for slider, value in zip(self.betas, edits.betas.tolist(), strict=True):
                slider.value = value
            for slider, value in zip(self.expression, _coefficients(edits), strict=True):
                slider.value = value
            turn = edits.turns[edits.joints.index(self.joint.value)]
            for slider, value in zip(self.angles, turn.rad2deg().tolist(), strict=True):
                slider.value = value
            self._filling = False

    def _coefficient_setter(self, set_one: Callable[[PersonEdits, int, float], None], i: int) -> Callable[[Any], None]:
        def set_coefficient(event: Any) -> None:
            with self._lock:
                if not self._filling:
                    set_one(self.chosen, i, event.target.value)
                    self.redraw()

        return set_coefficient

    def _turn(self, _: Any) -> None:
        with self._lock:
            if not self._filling:
                x, y, z = (math.radians(slider.value) for slider in self.angles)
                self.chosen.turn(self.joint.value, (x, y, z))
                self.redraw()

    def _reset(self, _: Any) -> None:
        with self._lock:
            self.chosen.reset()
            self._fill_sliders()
            self.redraw()

    def _download(self, event: Any) -> None:
        edits, kind = self.chosen, event.target.value
        row = edits.row(self.frame)
        if event.client is None or row is None:
            return
        frame = f"_frame{self.frame}" if len(self.frames) > 1 else ""
        name = f"{self.scene.name}_person{edits.person.number}{frame}.{kind}"
        event.client.send_file_download(name, edits.mesh_file(row, f".{kind}"), save_immediately=True)

    def _show_photograph(self, event: Any) -> None:
        self.backdrop.photograph.visible = event.target.value

    def _move_photograph(self, event: Any) -> None:
        with self._lock, self.server.atomic():
            self.backdrop.move(event.target.value)

    # ------------------------------------------------------------ time and camera

    def go_to(self, frame: int) -> None:
        """Go to a frame of the clip."""
        with self._lock:
            self.frame = frame
            self._show_frame()
            self.redraw()

    def _play(self, on: bool) -> None:
        self.playing = on
        if on:
            threading.Thread(target=self._run, args=(self.scene,), daemon=True).start()

    def _run(self, scene: ResultScene) -> None:
        """Play the clip in real time, skipping frames where drawing is slower."""
        start, first = time.monotonic(), self.frames.index(self.frame) if self.frame in self.frames else 0
        while self.playing and scene is self.scene and not self._stopped.is_set():
            at = first + int((time.monotonic() - start) * scene.fps)
            self.time.value = self.frames[at % len(self.frames)]
            time.sleep(1 / scene.fps)

    def look(self, view: str, client: Any = None) -> None:
        """Move the view to "camera", "front", "side" or "top", of all clients or one."""
        position, target, fov = self.backdrop.view(view)
        if client is None:
            start = self.server.initial_camera
            start.position, start.look_at, start.up, start.fov = position, target, (0.0, -1.0, 0.0), fov
        for each in [client] if client else self.server.get_clients().values():
            with each.atomic():
                each.camera.up_direction = (0.0, -1.0, 0.0)
                each.camera.position, each.camera.look_at, each.camera.fov = position, target, fov

    def wait(self) -> None:
        """Block until `stop`, or Ctrl-C in the main thread."""
        while not self._stopped.wait(0.2):
            pass

    def stop(self) -> None:
        """Stop the server."""
        self.playing = False
        self._close_film()
        self._stopped.set()
        with redirect_stdout(io.StringIO()):
            self.server.stop()


def _coefficients(edits: PersonEdits) -> list[float]:
    """What is added to the expression; none of a body without."""
    return [] if edits.expression is None else edits.expression.tolist()


def _viser() -> Any:
    try:
        import viser
    except ImportError:
        raise OptionError("the viewer needs viser; install it with: pip install 'bodyfit[view]'") from None
    return viser


def _with_bodies(results: Results) -> list[ResultScene]:
    """Return the scenes that have a body, without people that have none. Raises `OptionError`."""
    scenes = [
        replace(scene, people=tuple(p for p in scene.people if any(status.ok for status in p.result.status)))
        for scene in results.scenes
    ]
    scenes = [scene for scene in scenes if scene.people]
    if not scenes:
        raise OptionError(f"{results.folder}: nobody in it has a body, every fit failed; fit other pictures")
    return scenes


def _striped(model: BodyModel) -> Int[np.ndarray, "F 3"]:
    """Select every second slanted band of a body's faces."""
    middle = model.v_template[model.faces].mean(1).numpy()
    return model.faces.numpy()[np.floor((middle[:, 1] + 0.5 * middle[:, 0]) / _STRIPE_M) % 2 == 0]


def _poor_notes(scene: ResultScene) -> list[str]:
    """List the people with poor fits and the reasons."""
    reasons = [(person.number, _poor_reason(person)) for person in scene.people]
    return [f"person {number} is poor: {reason}" for number, reason in reasons if reason is not None]


def _poor_reason(person: Person) -> str | None:
    """Return the reason why a person's fit is poor; None where it is not."""
    status, reason = overall_status(person.result)
    return (reason or "explained badly") if status is FitStatus.POOR else None


def _frames(scene: ResultScene) -> range:
    """Return the frames of a scene from first to last, in the step of its tracks."""
    every = np.unique(np.concatenate([person.frames for person in scene.people]))
    step = int(np.gcd.reduce(np.diff(every))) if len(every) > 1 else 1
    return range(int(every[0]), int(every[-1]) + 1, step)


def _bytes(color: tuple[float, float, float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * c) for c in color)
    return red, green, blue


def _small(image: UInt8[np.ndarray, "H W 3"]) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((_PICTURE_SIDE, _PICTURE_SIDE))
    return np.asarray(picture)
