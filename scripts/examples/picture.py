"""A picture: find people, fit a body to each, draw them, write a mesh with its skeleton.

python scripts/examples/picture.py [OUT]
"""

import sys
from pathlib import Path

from PIL import Image

import bodyfit
from bodyfit import render

SAMPLES = Path(__file__).resolve().parents[2] / "assets" / "samples"


def main(out: Path, picture: Path = SAMPLES / "street_two_people.jpg") -> None:
    model = bodyfit.load_model("open")
    frame = bodyfit.read_image(picture)
    people = bodyfit.fit_image(frame, model=model)

    bodies = []
    for i, person in enumerate(people):
        height_m = float(model.measure(person.params.betas).height[0])
        off_px = float(person.reprojection_error_px[0])
        print(f"person {i}: {person.status[0].value}, {height_m:.2f} m tall, keypoints {off_px:.1f} px off")
        bodies.append((model(**person.params).vertices[0], render.person_color(i)))
        bodyfit.export(person, out / f"person{i}.glb")  # or .usd, .bvh, .obj, .ply

    overlay = render.overlay(frame.image, bodies, model.faces, people[0].camera)
    Image.fromarray(overlay).save(out / "overlay.png")
    from_above = render.studio(bodies, model.faces, view="top", grid_m=1.0)
    Image.fromarray(from_above).save(out / "top.png")


if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "out/examples/picture")
    folder.mkdir(parents=True, exist_ok=True)
    main(folder)
