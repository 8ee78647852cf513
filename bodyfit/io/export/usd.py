"""Bodies as USD: mesh, skeleton, skin and motion by the UsdSkel schema."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from bodyfit.errors import OutputError
from bodyfit.io.export.gltf import continuous_quaternions
from bodyfit.io.export.rig import Rig
from bodyfit.runtime.atomic import write_atomically

__all__ = ["save_rig_usd"]

_WHOLE = 1e-6
"""Time codes that are off a whole number by less are that number."""


def save_rig_usd(path: str | Path, rig: Rig, *, color: tuple[float, float, float] = (0.55, 0.76, 0.94)) -> None:
    """Write a rig as USD, text (.usda) or binary (.usd, .usdc), with its axis and unit in the stage's own fields.

    Morph targets become blend shapes. A clip's frames are at their own times, whole or broken numbers of the stage's
    time codes, which begin at 0. Raises `OutputError`, also where usd-core is not installed.
    """
    try:
        pxr = _pxr()
    except ImportError:
        raise OutputError(f'{path}: USD needs usd-core; install it with pip install "bodyfit[usd]"') from None
    with write_atomically(path) as temporary:
        temporary.touch()  # the system says why not, better than usd-core
        try:
            _write(temporary, rig, color)
        except pxr.Tf.ErrorException as error:
            raise OSError("usd-core failed to write it; is there room on the disk?") from error


def _write(path: Path, rig: Rig, color: tuple[float, float, float]) -> None:
    """The stage: a root with skeleton, mesh and motion below it."""
    pxr = _pxr()
    stage = pxr.Usd.Stage.CreateNew(str(path))
    pxr.UsdGeom.SetStageUpAxis(stage, getattr(pxr.UsdGeom.Tokens, rig.placing.up))
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1 / rig.placing.per_metre)
    top = pxr.UsdSkel.Root.Define(stage, "/body")
    stage.SetDefaultPrim(top.GetPrim())
    if len(rig) > 1:
        stage.SetTimeCodesPerSecond(rig.fps)
        stage.SetFramesPerSecond(rig.fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(float(_time_codes(rig)[-1]))
    joints = _joint_paths(rig)
    skeleton = _skeleton(stage, rig, joints)
    mesh = _mesh(stage, rig, color)
    pxr.UsdSkel.BindingAPI(mesh.GetPrim()).CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    _animation(stage, rig, joints, skeleton, mesh)
    stage.GetRootLayer().Save()


def _skeleton(stage: Any, rig: Rig, joints: list[str]) -> Any:
    """The joints in the T-pose."""
    pxr = _pxr()
    skeleton = pxr.UsdSkel.Skeleton.Define(stage, "/body/skeleton")
    skeleton.CreateJointsAttr(joints)
    local = rig.joints - np.where(np.array(rig.parents)[:, None] < 0, 0, rig.joints[list(rig.parents)])
    for create, places in ((skeleton.CreateBindTransformsAttr, rig.joints), (skeleton.CreateRestTransformsAttr, local)):
        matrices = np.tile(np.eye(4), (len(joints), 1, 1))
        matrices[:, 3, :3] = places  # USD's vectors are rows
        create(pxr.Vt.Matrix4dArray.FromNumpy(matrices))
    return skeleton


def _mesh(stage: Any, rig: Rig, color: tuple[float, float, float]) -> Any:
    """The rest mesh with its skinning weights."""
    pxr = _pxr()
    mesh = pxr.UsdGeom.Mesh.Define(stage, "/body/mesh")
    points = pxr.Vt.Vec3fArray.FromNumpy(rig.vertices.astype(np.float32))
    mesh.CreatePointsAttr(points)
    mesh.CreateExtentAttr(pxr.UsdGeom.PointBased.ComputeExtent(points))
    mesh.CreateFaceVertexCountsAttr(pxr.Vt.IntArray.FromNumpy(np.full(len(rig.faces), 3, np.int32)))
    mesh.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(rig.faces.astype(np.int32).ravel()))
    mesh.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    mesh.CreateDisplayColorAttr([pxr.Gf.ConvertDisplayToLinear(pxr.Gf.Vec3f(*color))])
    if rig.uv is not None and rig.uv_faces is not None:
        st = pxr.UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.faceVarying
        )
        st.Set(pxr.Vt.Vec2fArray.FromNumpy(rig.uv.astype(np.float32)))
        st.SetIndices(pxr.Vt.IntArray.FromNumpy(rig.uv_faces.astype(np.int32).ravel()))
    most = int((rig.weights > 0).sum(1).max())
    index = np.argsort(-rig.weights, 1, kind="stable")[:, :most]
    weights = np.take_along_axis(rig.weights, index, 1).astype(np.float32)
    binding = pxr.UsdSkel.BindingAPI.Apply(mesh.GetPrim())
    binding.CreateJointIndicesPrimvar(False, most).Set(pxr.Vt.IntArray.FromNumpy(index.astype(np.int32).ravel()))
    binding.CreateJointWeightsPrimvar(False, most).Set(pxr.Vt.FloatArray.FromNumpy(weights.ravel()))
    return mesh


def _animation(stage: Any, rig: Rig, joints: list[str], skeleton: Any, mesh: Any) -> None:
    """The pose of every frame, and the blend shapes that go with it."""
    pxr = _pxr()
    motion = pxr.UsdSkel.Animation.Define(stage, "/body/motion")
    pxr.UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets([motion.GetPath()])
    motion.CreateJointsAttr(joints)
    up = [max(parent, 0) for parent in rig.parents]
    places = (rig.joints - rig.joints[up]).astype(np.float32)
    motion.CreateScalesAttr(pxr.Vt.Vec3hArray.FromNumpy(np.ones((len(joints), 3), np.float16)))
    quaternions = continuous_quaternions(rig.rotations).astype(np.float32)
    translations, rotations = motion.CreateTranslationsAttr(), motion.CreateRotationsAttr()
    codes = _time_codes(rig).tolist()
    for t in range(len(rig)):
        time = pxr.Usd.TimeCode(codes[t]) if len(rig) > 1 else pxr.Usd.TimeCode.Default()
        places[0] = rig.root[t]
        translations.Set(pxr.Vt.Vec3fArray.FromNumpy(places), time)
        rotations.Set(pxr.Vt.QuatfArray.FromNumpy(quaternions[t]), time)
    if (morphs := rig.morphs) is None:
        return
    paths = []
    for name, target in zip(morphs.names, morphs.targets, strict=True):
        shape = pxr.UsdSkel.BlendShape.Define(stage, mesh.GetPath().AppendChild(name))
        rows = np.flatnonzero(target.any(1))
        shape.CreateOffsetsAttr(pxr.Vt.Vec3fArray.FromNumpy(target[rows].astype(np.float32)))
        shape.CreatePointIndicesAttr(pxr.Vt.IntArray.FromNumpy(rows.astype(np.int32)))
        paths.append(pxr.Sdf.Path(shape.GetPath()))
    binding = pxr.UsdSkel.BindingAPI(mesh.GetPrim())
    binding.CreateBlendShapesAttr(morphs.names)
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)
    motion.CreateBlendShapesAttr(morphs.names)
    weights = motion.CreateBlendShapeWeightsAttr()
    for t in range(len(rig)):
        time = pxr.Usd.TimeCode(codes[t]) if len(rig) > 1 else pxr.Usd.TimeCode.Default()
        weights.Set(pxr.Vt.FloatArray.FromNumpy(morphs.weights[t].astype(np.float32)), time)


def _time_codes(rig: Rig) -> Float[np.ndarray, "T"]:
    """When each frame is shown, in frames from 0; whole where that is so but for rounding."""
    codes = rig.times_s * (rig.fps or 1.0)
    return np.where(np.abs(codes - codes.round()) < _WHOLE, codes.round(), codes)


def _joint_paths(rig: Rig) -> list[str]:
    """Return each joint's path of names from the root, by which USD defines the tree."""
    paths: list[str] = []
    for name, parent in zip(rig.names, rig.parents, strict=True):
        paths.append(name if parent < 0 else f"{paths[parent]}/{name}")
    return paths


def _pxr() -> Any:
    """usd-core's package with the modules needed; what is in them is made at run time, and no type checker sees it."""
    for name in ("Gf", "Sdf", "Tf", "Usd", "UsdGeom", "UsdSkel", "Vt"):
        import_module(f"pxr.{name}")
    return import_module("pxr")
