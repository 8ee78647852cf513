"""Move the points of assets/body/face468.npz to where the face network sees them on the open face.

    python -m scripts.build.face_moves [--people 80] [--skins FOLDER] [-o assets/body/face468.npz]

After `face_points.py`. Its registration of the canonical face mesh is by shape; the network has a mind of its own: a
forehead, temples and a nose that are some millimetres higher. Each point goes along the skin by what it is off in the
mean, over rendered faces of many shapes and skins with mouths shut, across and along the head's axes. Lips stay, and so
does the outline, which is a line in the picture and no place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

import bodyfit
from bodyfit.body.assets import read_archive
from bodyfit.detect import DEFAULT, load_detector
from bodyfit.fit.residuals.parts.face import FACE_OUTLINE
from bodyfit.images.frame import Frame
from scripts.bench.inputs.rendered_people import Skins, draw_people, portraits
from scripts.bench.inputs.whole_people import on_face, world_rotations
from scripts.build.face_points import LOWER_LIP, UPPER_LIP, Skin
from scripts.build.pose_prior import write_npz

_CORNERS = (61, 291, 78, 308, 76, 306, 62, 292)
_FIXED = (*UPPER_LIP, *LOWER_LIP, *_CORNERS, *sorted(FACE_OUTLINE))


def offsets_m(model: bodyfit.BodyModel, people: int, skins: Path | None) -> np.ndarray:
    """(468, 2) medians of how far points are from where they are seen, to the face's left and up."""
    rng = np.random.default_rng(17)
    params, camera = portraits(model, people, rng, jaw=0.02, expression=0.3)
    pictures = draw_people(model, params, camera, Skins(model, skins), rng, shadows=False)
    found = load_detector(DEFAULT, face=True).detect([Frame(picture) for picture in pictures])
    points = on_face(model, model(**params).vertices)[:, :468]
    xy, depth = camera.project(points).numpy(), points[..., 2:].numpy()
    heads = world_rotations(model, params)[:, model.skeleton.index("head")].numpy().astype(float)
    off = []
    for i, persons in enumerate(found):
        if persons and persons[0].face is not None:
            in_camera = (persons[0].face.xyc[:, :2] - xy[i]) * depth[i] / float(camera.focal_px[i])
            off.append(np.linalg.solve(heads[i][:2, :2], in_camera.T).T)
    print(f"{len(off)} faces of {people}")
    return np.median(off, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--people", type=int, default=80)
    parser.add_argument("--skins", type=Path, help="skin textures; plain tones without")
    parser.add_argument("-o", "--output", type=Path, default=Path("assets/body/face468.npz"))
    args = parser.parse_args()
    model = bodyfit.load_model("open-x")
    arrays = {name: np.asarray(value) for name, value in read_archive(args.output).items()}
    skin, vertices = Skin(model), model.v_template.double().numpy()
    points = np.einsum("nk,nkc->nc", arrays["weights"][:468].astype(float), vertices[arrays["vertices"][:468]])
    off = offsets_m(model, args.people, args.skins)
    mirror = cKDTree(points).query(points * (-1, 1, 1))[1]
    off = 0.5 * (off + off[mirror] * (-1, 1))
    off[list(_FIXED)] = 0
    print("moved by mm, median and most:", 1000 * np.median(np.hypot(*off.T)), 1000 * np.hypot(*off.T).max())
    triangle, bary = skin.nearest(points + np.pad(off, ((0, 0), (0, 1))))
    free = np.setdiff1d(np.arange(468), _FIXED)
    arrays["vertices"][free] = model.faces.numpy()[triangle[free]]
    arrays["weights"][free] = bary[free]
    arrays["source"] = np.array("scripts/build/face_points.py, face_moves.py; MediaPipe's canonical face, Apache-2.0")
    write_npz(args.output, arrays)


if __name__ == "__main__":
    main()
