"""Replace PyTorch3D's MeshRasterizer by one that is fast on the CPU.

PyTorch3D visits every face at every pixel on the CPU, 13 s for a body at 512x512; this class gives the same fragments
in milliseconds, and their gradients. On CUDA it is PyTorch3D's own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from pytorch3d.renderer import MeshRasterizer as _PyTorch3DRasterizer
from pytorch3d.renderer.mesh.clip import ClipFrustum, clip_faces, convert_clipped_rasterization_to_original_faces
from pytorch3d.renderer.mesh.rasterizer import Fragments, RasterizationSettings
from pytorch3d.renderer.utils import parse_image_size
from pytorch3d.structures import Meshes
from torch import Tensor
from torch.autograd.function import once_differentiable

from bodyfit.errors import OptionError

__all__ = ["MeshRasterizer", "RasterizationSettings"]

_FRAGMENT_BYTES = 8 + 4 + 3 * 4 + 4  # index, depth, weights, distance


class MeshRasterizer(_PyTorch3DRasterizer):
    """A drop-in for PyTorch3D's `MeshRasterizer`: same arguments, same fragments, same gradients.

    On the CPU, `bin_size` and its companions change nothing, as in PyTorch3D, and a face with a corner that is not
    finite is not drawn, where PyTorch3D draws NaN. Raises `OptionError` for invalid settings and for fragments of
    more than `max_bytes`.
    """

    max_bytes: int = 4 << 30
    """Most memory for the fragments of one call on the CPU, yours to set; `bands` draws larger pictures."""

    def forward(self, meshes_world: Meshes, **kwargs: Any) -> Fragments:  # PyTorch3D's signature
        """Rasterise each mesh into its own picture and return the fragments."""
        if meshes_world.device.type != "cpu":
            return super().forward(meshes_world, **kwargs)
        height, _ = self._size(**kwargs)
        return self._rows(self._in_ndc(meshes_world, **kwargs), 0, height, **kwargs)

    def bands(self, meshes_world: Meshes, rows: int = 256, **kwargs: Any) -> Iterator[tuple[int, Fragments]]:
        """Yield the fragments in bands of rows, each with the number of its first row; on the CPU only.

        For pictures too large for memory: one band is held at a time. Gradients flow from each band.
        """
        if meshes_world.device.type != "cpu":
            raise OptionError(f"bands are drawn on the CPU only, got meshes on {meshes_world.device}; use meshes.cpu()")
        if rows < 1:
            raise OptionError(f"rows must be at least 1, got {rows}")
        height, _ = self._size(**kwargs)
        meshes = self._in_ndc(meshes_world, **kwargs)
        for top in range(0, height, rows):
            yield top, self._rows(meshes, top, min(top + rows, height), **kwargs)

    def _in_ndc(self, meshes_world: Any, **kwargs: Any) -> Any:  # Meshes, whatever PyTorch3D annotates
        if not meshes_world.num_faces_per_mesh().any():  # which PyTorch3D's transform cannot take
            return meshes_world
        return self.transform(meshes_world, **kwargs)

    def _size(self, **kwargs: Any) -> tuple[int, int]:
        """Validate the settings and return the picture's height and width. Raises `OptionError`."""
        settings: RasterizationSettings = kwargs.get("raster_settings", self.raster_settings)
        if settings.faces_per_pixel < 1:
            raise OptionError(f"faces_per_pixel must be at least 1, got {settings.faces_per_pixel}")
        if not 0 <= settings.blur_radius < math.inf:
            raise OptionError(f"blur_radius must be 0 or more, got {settings.blur_radius}")
        height, width = parse_image_size(settings.image_size)
        if height < 1 or width < 1:
            raise OptionError(f"image_size must be at least 1 by 1, got {height} by {width}")
        return height, width

    def _rows(self, meshes: Any, top: int, bottom: int, **kwargs: Any) -> Fragments:
        """Rasterise the rows from `top` to `bottom` (excluded) of meshes in NDC."""
        from bodyfit.raster.zbuffer import Rules, pixel_centres

        settings: RasterizationSettings = kwargs.get("raster_settings", self.raster_settings)
        cameras: Any = kwargs.get("cameras", self.cameras)
        height, width = self._size(**kwargs)
        _check_memory((len(meshes), bottom - top, width, settings.faces_per_pixel), self.max_bytes)
        perspective, clip = settings.perspective_correct, settings.clip_barycentric_coords
        rules = Rules(
            blur_radius=settings.blur_radius,
            perspective=bool(cameras.is_perspective()) if perspective is None else perspective,
            clip=settings.blur_radius > 0 if clip is None else clip,
            cull=settings.cull_backfaces,
            threads=torch.get_num_threads(),
        )
        near = _near_clip(settings, cameras, rules.perspective)
        centres = pixel_centres(width, height), pixel_centres(height, width)[top:bottom]
        return _rasterize(meshes, centres, settings.faces_per_pixel, rules, near, settings.cull_to_frustum)


def _check_memory(shape: tuple[int, int, int, int], max_bytes: int) -> None:
    """Raise `OptionError` where fragments (N, H, W, K) would take more than `max_bytes`."""
    needed = math.prod(shape) * _FRAGMENT_BYTES
    if needed > max_bytes:
        n, height, width, k = shape
        raise OptionError(
            f"the fragments of {n} pictures of {width}x{height} pixels with {k} faces a pixel take "
            f"{needed / 2**30:.1f} GiB, more than max_bytes, {max_bytes / 2**30:.1f} GiB; draw fewer rows at a time "
            "with MeshRasterizer.bands, or set max_bytes"
        )


def _near_clip(settings: RasterizationSettings, cameras: Any, perspective: bool) -> float | None:
    """Return the depth to clip faces at: the setting, or half the camera's near plane where it has one."""
    if settings.z_clip_value is not None:
        return settings.z_clip_value
    near = cameras.get_znear()
    if near is None or not perspective:
        return None
    return float(torch.as_tensor(near).min()) / 2


def _rasterize(
    meshes: Any, centres: tuple[Any, Any], k: int, rules: Any, near: float | None, cull_to_frustum: bool
) -> Fragments:
    """Rasterise meshes in NDC at pixel centres (xs, ys), with k faces a pixel."""
    corners = meshes.faces_packed()
    face_verts = meshes.verts_packed().float().index_select(0, corners.flatten()).view(-1, 3, 3)
    first, count = meshes.mesh_to_faces_packed_first_idx(), meshes.num_faces_per_mesh()
    if len(corners) == 0:  # PyTorch3D leaves these undefined
        first, count = torch.zeros(2, len(meshes), dtype=torch.int64)
    clipped, neighbours = None, torch.empty(0, dtype=torch.int64)
    if len(corners) > 0 and (near is not None or cull_to_frustum):
        frustum = ClipFrustum(
            left=-1,
            right=1,
            top=-1,
            bottom=1,
            perspective_correct=rules.perspective,
            z_clip_value=near,
            cull=cull_to_frustum,
        )
        full = count > 0  # PyTorch3D's clipping looks up the first face of each mesh
        clipped = clip_faces(face_verts, first[full], count[full], frustum=frustum)
        first, count = torch.zeros_like(first), torch.zeros_like(count)
        face_verts, first[full], count[full] = (
            clipped.face_verts,
            clipped.mesh_to_face_first_idx,
            clipped.num_faces_per_mesh,
        )
        if clipped.clipped_faces_neighbor_idx is not None:
            neighbours = clipped.clipped_faces_neighbor_idx
    apply: Any = _Fragments.apply
    pix_to_face, zbuf, bary, dists = apply(face_verts, first, count, neighbours, centres, k, rules)
    if clipped is not None:
        pix_to_face, bary = convert_clipped_rasterization_to_original_faces(pix_to_face, bary, clipped)
    return Fragments(pix_to_face=pix_to_face, zbuf=zbuf, bary_coords=bary, dists=dists)


class _Fragments(torch.autograd.Function):
    """Differentiable rasterisation: `zbuffer.fill` forwards, `zbuffer.pull_back` backwards."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        face_verts: Float[Tensor, "F 3 3"],
        first: Int[Tensor, " N"],
        count: Int[Tensor, " N"],
        neighbours: Int[Tensor, " G"],
        centres: tuple[Any, Any],
        k: int,
        rules: Any,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from bodyfit.raster.zbuffer import fill

        face_verts = face_verts.detach().contiguous()
        shape = (len(first), len(centres[1]), len(centres[0]), k)
        # numpy's memory, for it asks for huge pages: a large picture is filled three times as fast as torch's.
        arrays = np.empty(shape, np.int64), *(np.empty(s, np.float32) for s in (shape, (*shape, 3), shape))
        fill(face_verts.numpy(), first.numpy(), count.numpy(), neighbours.numpy(), *centres, rules, *arrays)
        pix, zbuf, bary, dists = (torch.from_numpy(array) for array in arrays)
        ctx.save_for_backward(face_verts, pix)
        ctx.mark_non_differentiable(pix)
        ctx.rules, ctx.centres = rules, centres
        return pix, zbuf, bary, dists

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        from bodyfit.raster.zbuffer import pull_back

        face_verts, pix = ctx.saved_tensors
        (xs, ys), (zbuf, bary, dists) = ctx.centres, (g.contiguous().numpy() for g in grads[1:])
        grad = pull_back(face_verts.numpy(), xs, ys, ctx.rules, pix.numpy(), zbuf, bary, dists)
        return torch.from_numpy(grad).float(), None, None, None, None, None, None
