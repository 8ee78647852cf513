"""Several cameras: one body from the keypoints of calibrated cameras, beside what one camera alone tells.

    python scripts/examples/cameras.py [OUT]

The three cameras, and the keypoints that they see of a body in a random pose with 3 px of noise, are made here. Put
yours in their place: K, R, t of each camera (x_camera = R x_world + t) and (people, cameras, keypoints, 3).
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import bodyfit
from bodyfit import render
from bodyfit.evaluate import pa_mpjpe

SIZE, LAYOUT = (1000, 1000), "coco17"


def camera_at(yaw: float) -> bodyfit.CalibratedCamera:
    """A camera 4 m from the origin that looks at it, x right, y down, z away."""
    K = np.array([[1000.0, 0, SIZE[0] / 2], [0, 1000.0, SIZE[1] / 2], [0, 0, 1]])
    R = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return bodyfit.CalibratedCamera(K=K, R=R, t=np.array([0.0, 0.0, 4.0]))


def main(out: Path) -> None:
    model = bodyfit.load_model("open")
    pose = torch.from_numpy(bodyfit.load_pose_prior().sample(1, seed=4)).float()
    upright = torch.tensor([[torch.pi, 0.0, 0.0]])  # the model's y is up, a camera's down
    truth = model(body_pose=pose, global_orient=upright)
    points = model.keypoints(truth, LAYOUT)[0].double().numpy()

    cameras = [camera_at(yaw) for yaw in (0.0, 1.0, 2.2)]
    rng = np.random.default_rng(0)
    xy = np.stack([camera.project(points) for camera in cameras]) + 3 * rng.standard_normal((3, len(points), 2))
    xyc = np.concatenate([xy, np.ones((3, len(points), 1))], 2)[None]  # (1 person, 3 cameras, 17, 3)

    one = bodyfit.fit_keypoints(xyc[:, :1], layout=LAYOUT, cameras=cameras[:1], model=model)
    three = bodyfit.fit_keypoints(xyc, layout=LAYOUT, cameras=cameras, model=model)
    pictures = []
    for name, result in (("truth", None), ("one camera", one), ("three cameras", three)):
        if result is not None:
            error_mm = pa_mpjpe(result.joints, truth.joints).per_item[0]
            print(f"{name}: joints {error_mm:.0f} mm off (PA-MPJPE)")
        vertices = (truth if result is None else model(**result.params)).vertices[0]
        body = [(vertices, render.person_color(len(pictures)))]
        pictures.append(render.studio(body, model.faces, view="side", size=(480, 640)))
    Image.fromarray(np.concatenate(pictures, 1)).save(out / "side.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/cameras")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
