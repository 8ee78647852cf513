"""Work that needs each compiled loop once, so that none is left for the user's first run.

Loops compile for the types of their arguments: those of float32 on a CPU, which is what all commands use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

import bodyfit

__all__ = ["WORK", "compile_loops"]

_SIZE, _FOCAL_PX = (256, 256), 256.0
_LARGER = 4
"""Hands of a few pixels are not fitted."""


def compile_loops() -> Iterator[str]:
    """Do all work, a part at a time, and give the name of what comes next before each."""
    model = bodyfit.load_model()
    for name, work in WORK.items():
        yield name
        work(model)


def _people(model: bodyfit.BodyModel, count: int = 4) -> bodyfit.BodyParams:
    """Standing people before a camera at the origin."""
    upright, away = torch.tensor([[torch.pi, 0.0, 0.0]]), torch.tensor([[0.0, 0.2, 4.0]])
    return model.params(global_orient=upright.expand(count, 3), transl=away.expand(count, 3))


def _keypoints(model: bodyfit.BodyModel, layout: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints (B, K, 3) in pixels, and their places in camera axes, metres."""
    points = model.keypoints(_people(model), layout)
    xy = bodyfit.Camera.make(len(points), _SIZE, focal_px=_FOCAL_PX).project(points)
    there = torch.isfinite(xy).all(2, keepdim=True)
    return torch.cat([torch.nan_to_num(xy), there.to(xy)], 2), points


def _bodies(model: bodyfit.BodyModel) -> None:
    for name in ("open", "open-h", "open-x"):
        one = bodyfit.load_model(name)
        params = one.params(betas=torch.zeros(1, 10, requires_grad=True))
        one(**params).vertices.sum().backward()
        with torch.no_grad():
            one(**params)
            one.joints(params)
            one.keypoints(params, "coco17")


def _fits(model: bodyfit.BodyModel) -> None:
    seen = {"image_size": _SIZE, "focal_px": _FOCAL_PX, "model": model}
    for layout in ("coco17", "mediapipe33"):
        xyc, points = _keypoints(model, layout)
        found = bodyfit.fit_keypoints(xyc, layout=layout, **seen)
        bodyfit.fit_keypoints(xyc, layout=layout, joints3d=points, **seen)
        bodyfit.fit_keypoints(xyc, layout=layout, previous=found.params, height_m=1.7, **seen)
        bodyfit.fit_keypoints(points3d=points, points3d_layout=layout, model=model)
    bodyfit.fit_keypoints(xyc, layout=layout, config=bodyfit.FitConfig.smplify(), **seen)


def _cameras(model: bodyfit.BodyModel) -> None:
    xyc, points = _keypoints(model, "coco17")
    K = np.array([[_FOCAL_PX, 0, _SIZE[0] / 2], [0, _FOCAL_PX, _SIZE[1] / 2], [0, 0, 1]])
    cameras = [bodyfit.CalibratedCamera(K=K, R=np.eye(3), t=np.zeros(3))] * 2
    views = xyc[:, None].expand(-1, 2, -1, -1)
    bodyfit.fit_keypoints(views, layout="coco17", cameras=cameras, model=model)
    bodyfit.fit_keypoints(views, layout="coco17", cameras=cameras, points3d=points, model=model)


def _clips(model: bodyfit.BodyModel) -> None:
    xyc, points = _keypoints(model, "mediapipe33")
    seen = {"layout": "mediapipe33", "image_size": _SIZE, "focal_px": _FOCAL_PX, "fps": 30.0, "model": model}
    bodyfit.fit_sequence(xyc, **seen)
    bodyfit.fit_sequence(xyc, joints3d=points, **seen)


def _hands_and_face(_: bodyfit.BodyModel) -> None:
    whole = bodyfit.load_model("open-x")
    xyc = _keypoints(whole, "wholebody133")[0] * torch.tensor([_LARGER, _LARGER, 1])
    size = _LARGER * _SIZE[0], _LARGER * _SIZE[1]
    bodyfit.fit_keypoints(xyc[:1], layout="wholebody133", image_size=size, focal_px=_LARGER * _FOCAL_PX, model=whole)


def _drawing(model: bodyfit.BodyModel) -> None:
    from bodyfit import render

    with torch.no_grad():
        out = model(**_people(model, 1))
    vertices, picture = out.vertices[0], np.full((*_SIZE[::-1], 3), 128, np.uint8)
    camera = bodyfit.Camera.make(1, _SIZE, focal_px=_FOCAL_PX)
    colours = torch.full((len(vertices), 3), 0.5)
    assert model.uv is not None and model.uv_faces is not None  # noqa: PT018  the open body has them
    paints = (render.person_color(0), colours, render.Texture(picture, model.uv, model.uv_faces))
    for paint in paints:
        render.overlay(picture, [(vertices, paint)], model.faces, camera)
        render.studio([(vertices, paint)], model.faces, view="side", size=_SIZE, grid_m=0.5)
    bodies = [(vertices, paints[0])]
    xyc = _keypoints(model, "coco17")[0]
    lines = {"joints": [out.joints[0]], "keypoints": [xyc[0]], "layout": "coco17"}
    render.overlay(picture, bodies, model.faces, camera, poor=(0,), shadows=False, **lines)
    render.draw_maps(bodies, model.faces, camera, part_weights=model.weights)
    _rasteriser(model, vertices)


def _rasteriser(model: bodyfit.BodyModel, vertices: torch.Tensor) -> None:
    from pytorch3d.structures import Meshes

    from bodyfit import render
    from bodyfit.geometry.camera import to_pytorch3d_axes

    cameras = render.pytorch3d_cameras(bodyfit.Camera.make(1, _SIZE, focal_px=_FOCAL_PX))
    for options in ({}, {"faces_per_pixel": 8, "blur_radius": 1e-4}):
        points = to_pytorch3d_axes(vertices).requires_grad_()
        settings = render.RasterizationSettings(image_size=_SIZE, **options)
        fragments = render.MeshRasterizer(cameras, settings)(Meshes([points], [model.faces]))
        (fragments.zbuf.sum() + fragments.bary_coords.sum() + fragments.dists.sum()).backward()


def _random_bodies(model: bodyfit.BodyModel) -> None:
    bodies = bodyfit.random_bodies(2, model=model)
    with torch.no_grad():
        vertices = model(**bodies).vertices
    bodyfit.interpenetration(vertices, model.faces)
    model.measure(bodies.betas)


def _scans(model: bodyfit.BodyModel) -> None:
    from bodyfit.register.surface.colors import ColoredScan, bake_texture

    for one in (model, bodyfit.load_model("open-x")):
        with torch.no_grad():
            vertices = one(**one.params()).vertices[0].numpy()
        scan = {"points": vertices, "faces": model.faces.numpy(), "unit": "m", "clothed": False}
        bodyfit.register(**scan, model=one, start=one.params(), surface=one is model)
    mesh = vertices.astype(np.float64), model.faces.numpy()
    if model.uv is not None and model.uv_faces is not None:
        colored = ColoredScan(mesh[0], colors=np.zeros_like(mesh[0]))
        bake_texture(*mesh, model.uv, model.uv_faces, colored, size=16)


def _scenes(model: bodyfit.BodyModel) -> None:
    from bodyfit.scenes import SceneConfig, draw_scene, sample_scene

    draw_scene(sample_scene(SceneConfig(people=(2, 2), size=64), 0, 0))


WORK: dict[str, Callable[[bodyfit.BodyModel], None]] = {
    "body models": _bodies,
    "fits": _fits,
    "fits of hands and face": _hands_and_face,
    "fits of several cameras": _cameras,
    "clips": _clips,
    "drawing": _drawing,
    "random bodies": _random_bodies,
    "scans": _scans,
    "scenes": _scenes,
}
"""What is done, in this order."""
