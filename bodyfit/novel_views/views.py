"""See the person of one photograph from elsewhere."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float32, UInt8

from bodyfit.avatars.view import AvatarView
from bodyfit.body.model import BodyModel
from bodyfit.detect.networks.session import Network
from bodyfit.errors import OptionError
from bodyfit.images.similarity import mask_iou
from bodyfit.novel_views.appearance import Appearance, mirrored_vertices
from bodyfit.novel_views.assemble import Layers, body_maps, completed, detailed, layers_of, view_input
from bodyfit.novel_views.clothes import clothed_body
from bodyfit.novel_views.lift import lifted
from bodyfit.novel_views.networks import SIDE, completion, shipped_network
from bodyfit.novel_views.square import Body, Square, square_of, turn_of

__all__ = ["MOST_PITCH_DEG", "NewViews"]

MOST_PITCH_DEG = 60.0
"""Largest pitch of a new view."""
_LEAST_IOU = 0.75
"""Intersection over union of mask and body below which a view is poor."""


class NewViews:
    """A photograph of a person, who is seen from elsewhere by `draw`."""

    def __init__(
        self,
        view: AvatarView,
        model: BodyModel,
        *,
        most_px: int = 768,
        network: Network | None = None,
        surface: bool = True,
        refine: bool = True,
    ) -> None:
        """Lift the person's pixels to depth.

        view: the photograph with mask and body. most_px: side of the square in which details are drawn, at most; the
        network works at 256 pixels, and what it adds is enlarged. network: the shipped one if left out. surface: move
        the body out to clothes and hair first, where it is one that `clothed_surface` takes; without it pixels have the
        body's depth. refine: let the network complete views; without it pixels are laid over the coloured surface as
        they are. Raises `OptionError` for an empty mask and for a person too close to the camera.
        """
        if not view.mask.any():
            raise OptionError("the mask of the view is empty: nobody is in it")
        if most_px < SIDE:
            raise OptionError(f"most_px must be at least {SIDE}, got {most_px}")
        self._network = shipped_network() if network is None else network
        self._refine = refine
        with torch.no_grad():
            vertices = model(**view.params).vertices[0].double().cpu().numpy()
        faces = model.faces.cpu().numpy()
        body = Body.of(vertices @ view.camera.R.T + view.camera.t, faces)
        self.body = clothed_body(body, view.image, view.mask, view.lens) if surface else body
        """The body in the camera's axes, or the surface of its clothes, about the body's middle."""
        self._bare = self.body is body
        mirror = mirrored_vertices(model.v_template.double().cpu().numpy())
        coarse = square_of(view, self.body, SIDE)
        self._width_px = round(SIDE / coarse.scale)
        naked = np.isfinite(coarse.depth(body).depth_m) & coarse.within((view.mask.shape[1], view.mask.shape[0]))
        self.iou = mask_iou(naked, coarse.mask)
        """Intersection over union of the mask and the body, within the photograph."""
        self.depth = lifted(coarse, self.body)
        """The photograph's square with the depth of the person."""
        side = int(np.clip(self._width_px, SIDE, most_px))
        fine = self.depth.enlarged(coarse if side == SIDE else square_of(view, self.body, side))
        self._levels = [(one.square, one.points(erode_px=_edge(one.square))) for one in (self.depth, fine)]
        self._appearances = [Appearance(one.square, self.body, mirror) for one in (self.depth, fine)]

    @property
    def reason(self) -> str | None:
        """Why new views of this photograph are not to be relied on; None where they are."""
        if self.iou >= _LEAST_IOU:
            return None
        return f"the body disagrees with the mask: IoU {self.iou:.2f}, less than {_LEAST_IOU:g}"

    def layers(self, yaw_deg: float | int, pitch_deg: float | int = 0.0, *, fine: bool = False) -> Layers:
        """Splat the pixels and colour the body as they are from elsewhere, at 256 pixels or at the finer resolution."""
        return self._layers(yaw_deg, pitch_deg, int(fine))[0]

    def draw(self, yaw_deg: float | int, pitch_deg: float | int = 0.0) -> Float32[np.ndarray, "S S 4"]:
        """Draw the person from elsewhere: premultiplied RGBA of the square about them (`laid` puts it in its place).

        yaw_deg: turn of the person about the vertical through the middle of the body; at 90 who faced the camera faces
        the picture's right. pitch_deg: how far the camera rises, looking down. Raises `OptionError`.
        """
        if not (np.isfinite(yaw_deg) and abs(pitch_deg) <= MOST_PITCH_DEG):
            raise OptionError(f"pitch must lie within {MOST_PITCH_DEG:g} degrees, yaw be finite")
        coarse, inputs = self._layers(yaw_deg, pitch_deg, 0)
        large = len(self._levels[1][0].image) != SIDE
        fine = self._layers(yaw_deg, pitch_deg, 1)[0] if large else coarse
        if not self._refine:
            return completed(fine, None)
        output = completion(self._network, inputs)
        return detailed(fine, coarse, output) if large else completed(coarse, output)

    def over(
        self, picture: UInt8[np.ndarray, "H W 3"], yaw_deg: float | int, pitch_deg: float | int = 0.0
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Draw the person from elsewhere before a picture of the photograph's size. Raises `OptionError`."""
        return self.laid(self.draw(yaw_deg, pitch_deg), picture)

    def laid(
        self, drawn: Float32[np.ndarray, "S S 4"], picture: UInt8[np.ndarray, "H W 3"]
    ) -> UInt8[np.ndarray, "H W 3"]:
        """Lay what `draw` or `completed` gives over a picture of the photograph's size, at its place."""
        rows, columns, part = self._placed(drawn, (picture.shape[1], picture.shape[0]))
        out = picture.copy()
        under = out[rows, columns].astype(np.float32) / np.float32(255)
        out[rows, columns] = np.round(255 * (part[..., :3] + (1 - part[..., 3:]) * under).clip(0, 1))
        return out

    def cut_out(self, drawn: Float32[np.ndarray, "S S 4"], size_px: tuple[int, int]) -> UInt8[np.ndarray, "H W 4"]:
        """Put what `draw` gives at its place in an empty picture of the photograph's (width, height).

        Returns red, green, blue and opacity, as PNG and WebP have them: not premultiplied.
        """
        rows, columns, part = self._placed(drawn, size_px)
        out = np.zeros((size_px[1], size_px[0], 4), np.uint8)
        color = part[..., :3] / np.maximum(part[..., 3:], 1e-3)
        out[rows, columns] = np.round(255 * np.concatenate([color, part[..., 3:]], 2).clip(0, 1))
        return out

    def _placed(
        self, drawn: Float32[np.ndarray, "S S 4"], size_px: tuple[int, int]
    ) -> tuple[slice, slice, Float32[np.ndarray, "h w 4"]]:
        """Resize a square to the photograph's pixels; returns rows and columns of what lies in it, and that part."""
        side = self._width_px
        if len(drawn) != side:
            how = cv2.INTER_AREA if len(drawn) > side else cv2.INTER_LINEAR
            drawn = np.asarray(cv2.resize(drawn, (side, side), interpolation=how))
        x, y = self.depth.square.corner_px
        width, height = size_px
        rows, columns = slice(max(y, 0), min(y + side, height)), slice(max(x, 0), min(x + side, width))
        return rows, columns, drawn[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]

    def _layers(
        self, yaw_deg: float | int, pitch_deg: float | int, level: int
    ) -> tuple[Layers, Float32[np.ndarray, "16 S S"]]:
        (square, points), turn, pivot = self._levels[level], turn_of(yaw_deg, pitch_deg), self.body.pivot
        finer = {} if square.side == SIDE else {"finer": 1}
        maps = body_maps(square, self.body.turned(turn), self._appearances[level], **finer)
        layers = layers_of(points, turn, square, maps.depth_m, pivot, maps.avatar, bare=self._bare)
        return layers, view_input(layers, maps.depth_m, maps.normals, float(pivot[2]))


def _edge(square: Square) -> int:
    """Width of the mask's edge that has background in it, pixels."""
    return max(1, round(square.side / SIDE))
