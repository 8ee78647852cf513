"""PyTorch3D's MeshRasterizer, made fast on the CPU.

PyTorch3D visits every face at every pixel on the CPU, 13 s for a body at 512x512; this class gives the same fragments
in milliseconds. On CUDA it is PyTorch3D's own.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from pytorch3d import _C  # pyright: ignore[reportAttributeAccessIssue]
from pytorch3d.renderer import MeshRasterizer as _PyTorch3DRasterizer
from pytorch3d.renderer.mesh.clip import ClipFrustum, clip_faces, convert_clipped_rasterization_to_original_faces
from pytorch3d.renderer.mesh.rasterizer import Fragments, RasterizationSettings
from pytorch3d.renderer.utils import parse_image_size
from pytorch3d.structures import Meshes
from torch import Tensor

from bodyfit.errors import OptionError

__all__ = ["MeshRasterizer", "RasterizationSettings"]


class MeshRasterizer(_PyTorch3DRasterizer):
    """A drop-in for PyTorch3D's `MeshRasterizer`: same arguments, same fragments, same gradients.

    On the CPU only `faces_per_pixel=1` and `blur_radius=0`; raises `OptionError` for others.
    """

    def forward(self, meshes_world: Meshes, **kwargs: Any) -> Fragments:  # PyTorch3D's signature
        """The fragments of each mesh, each in its own picture."""
        settings: RasterizationSettings = kwargs.get("raster_settings", self.raster_settings)
        if meshes_world.device.type == "cuda":
            return super().forward(meshes_world, **kwargs)
        if settings.faces_per_pixel != 1 or settings.blur_radius != 0:
            raise OptionError(
                "on the CPU faces_per_pixel must be 1 and blur_radius 0, got "
                f"{settings.faces_per_pixel} and {settings.blur_radius:g}; use pytorch3d.renderer.MeshRasterizer"
            )
        cameras: Any = kwargs.get("cameras", self.cameras)
        meshes: Any = self.transform(meshes_world, **kwargs)  # a Meshes, whatever PyTorch3D annotates
        perspective = settings.perspective_correct
        if perspective is None:
            perspective = bool(cameras.is_perspective())
        return _rasterize(meshes, settings, perspective, _near_clip(settings, cameras, perspective))


def _near_clip(settings: RasterizationSettings, cameras: Any, perspective: bool) -> float | None:
    """The depth to clip faces at: as set, or half the camera's near plane where it has one."""
    if settings.z_clip_value is not None:
        return settings.z_clip_value
    near = cameras.get_znear()
    if near is None or not perspective:
        return None
    return float(torch.as_tensor(near).min()) / 2


def _rasterize(meshes: Any, settings: RasterizationSettings, perspective: bool, near: float | None) -> Fragments:
    """Fragments of meshes in NDC."""
    face_verts = meshes.verts_packed()[meshes.faces_packed()].float()
    first, count = meshes.mesh_to_faces_packed_first_idx(), meshes.num_faces_per_mesh()
    clipped = None
    if near is not None or settings.cull_to_frustum:
        frustum = ClipFrustum(
            left=-1,
            right=1,
            top=-1,
            bottom=1,
            perspective_correct=perspective,
            z_clip_value=near,
            cull=settings.cull_to_frustum,
        )
        clipped = clip_faces(face_verts, first, count, frustum=frustum)
        face_verts, first, count = clipped.face_verts, clipped.mesh_to_face_first_idx, clipped.num_faces_per_mesh
    size = parse_image_size(settings.image_size)
    apply: Any = _NearestFaces.apply
    pix_to_face, zbuf, bary, dists = apply(face_verts, first, count, size, perspective, settings.cull_backfaces)
    if clipped is not None:
        pix_to_face, bary = convert_clipped_rasterization_to_original_faces(pix_to_face, bary, clipped)
    return Fragments(pix_to_face=pix_to_face, zbuf=zbuf, bary_coords=bary, dists=dists)


class _NearestFaces(torch.autograd.Function):
    """The z-buffer forwards, PyTorch3D's kernel (fast on the CPU, for it visits covered pixels only) backwards."""

    @staticmethod
    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any,
        face_verts: Float[Tensor, "F 3 3"],
        first: Int[Tensor, " N"],
        count: Int[Tensor, " N"],
        size: tuple[int, int],
        perspective: bool,
        cull: bool,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        from bodyfit.render.zbuffer import fill

        face_verts = face_verts.detach().contiguous()
        shape = (len(first), *size)
        pix = torch.full(shape, -1, dtype=torch.int64)
        zbuf, dists = (torch.full(shape, -1.0) for _ in range(2))
        bary = torch.full((*shape, 3), -1.0)
        meshes = (face_verts.numpy(), first.numpy(), count.numpy())
        fill(
            *meshes, perspective, cull, pix.numpy(), zbuf.numpy(), bary.numpy(), dists.numpy(), torch.get_num_threads()
        )
        pix = pix[..., None]
        ctx.save_for_backward(face_verts, pix)
        ctx.mark_non_differentiable(pix)
        ctx.perspective = perspective
        return pix, zbuf[..., None], bary[..., None, :], dists[..., None]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        face_verts, pix = ctx.saved_tensors
        _, zbuf, bary, dists = (g.contiguous() for g in grads)
        grad = _C.rasterize_meshes_backward(face_verts, pix, zbuf, bary, dists, ctx.perspective, False)
        return grad, None, None, None, None, None
