"""How like the truth fields of torch are beside the compiled grid, after equal processor time of training.

The person, pictures and scores are those of `scripts.bench.avatars.radiance`, and all fields are trained on the same
samples. Fields: `direct` (the compiled grid that `fit_field` trains), `grid` (a grid of features with a small network),
`encoding` (positional encoding with a network of four layers, NeRF's), and each with `+fine`: samples drawn again in
proportion to their weights. Casting the samples, which all share, is not counted.

    python -m scripts.bench.avatars.networks [--fields direct,grid,encoding,encoding+fine] [--seconds 60,120] [--seed 4]
        [--poses 24] [--every 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from bodyfit.app.avatars.field import views_to_learn
from bodyfit.avatars import AvatarView
from bodyfit.fields.radiance import RadianceConfig, RadianceField
from bodyfit.fields.radiance.field import start_field
from bodyfit.fields.radiance.fit import train_field
from bodyfit.fields.radiance.networks import NetworkConfig, network_rays, train_network
from bodyfit.fields.radiance.views import TrainingRays, View, training_rays
from bodyfit.images.similarity import box_of, psnr_db, ssim
from scripts.bench.avatars.people import studio
from scripts.bench.avatars.radiance import HELD_OUT_POSES, YAWS, held_out
from scripts.bench.records import harness

CONSOLE = Console()
_FINE = 8
"""Samples a ray that `+fine` draws again, of about 21."""
_TRIAL = 0.05
"""Passes of the compiled grid that tell how many fit into the time."""
_WHITE = (1.0, 1.0, 1.0)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fields", default="direct,grid,encoding,encoding+fine")
    parser.add_argument("--seconds", default="60,120", help="processor time of training")
    parser.add_argument("--seed", type=int, default=4, help="the person, outfit and poses (4)")
    parser.add_argument("--poses", type=int, default=24, help="poses of training, before four cameras each (24)")
    parser.add_argument("--every", type=int, default=3, help="of the pictures held out only so many are scored (3)")
    harness.add_json_option(parser)
    args = parser.parse_args()
    person = studio(args.seed, args.poses + HELD_OUT_POSES)
    views = person.views(range(args.poses), YAWS)
    tests = {name: some[:: args.every] for name, some in held_out(person, args.poses).items()}
    config = RadianceConfig(background=_WHITE)
    those, bodies = views_to_learn(views)
    start = start_field(person.model, bodies.betas[:1].numpy(), config, len(YAWS))
    rays = training_rays(those, bodies, person.model, start.canonical, config.cast, config.seed)
    rows = []
    for seconds in map(float, args.seconds.split(",")):
        for kind in args.fields.split(","):
            rows.append({"field": kind, **measured(kind, seconds, start, rays, tests)})
            CONSOLE.print(rows[-1])
    report(rows)
    harness.write_json(args, {"fields": rows, "rays": len(rays), "samples": int(rays.ptr[-1])})


def measured(
    kind: str, seconds: float, start: RadianceField, rays: TrainingRays, tests: dict[str, list[AvatarView]]
) -> dict[str, Any]:
    """Train a field for some time and score its pictures."""
    begin = time.process_time()
    if kind == "direct":
        field, passes = direct(start, rays, seconds)
        network, fine, done = None, 0, {"passes": passes}
    else:
        field, fine = start, _FINE if kind.endswith("+fine") else 0
        settings = NetworkConfig(kind=kind.removesuffix("+fine"), seconds=seconds, fine=fine)
        network, losses = train_network(start, rays, settings)
        done = {"passes": len(losses) * settings.batch_rays / len(rays)}
    entry: dict[str, Any] = {"budget_s": seconds, "seconds": time.process_time() - begin, **done}
    drawn, pictures = 0.0, 0
    for name, views in tests.items():
        scores = []
        for view in views:
            picture, spent = draw(network, field, view)
            box = box_of(view.mask)
            scores.append((psnr_db(picture[box], view.image[box]), ssim(picture[box], view.image[box])))
            drawn, pictures = drawn + spent, pictures + 1
        entry[name] = dict(zip(("psnr_db", "ssim"), np.mean(scores, 0).tolist(), strict=True))
    return entry | {"seconds_a_picture": drawn / pictures, "pictures": pictures}


def direct(start: RadianceField, rays: TrainingRays, seconds: float) -> tuple[RadianceField, float]:
    """Train the compiled grid for about so long; return it and its passes."""
    train_field(replace(start, config=replace(start.config, passes=1e-3)), rays)  # compiles
    begin = time.process_time()
    train_field(replace(start, config=replace(start.config, passes=_TRIAL)), rays)
    passes = _TRIAL * seconds / (time.process_time() - begin)
    return train_field(replace(start, config=replace(start.config, passes=passes)), rays), passes


def draw(network: torch.nn.Module | None, field: RadianceField, view: AvatarView) -> tuple[np.ndarray, float]:
    """Draw a view from its samples, on white; return the picture and the processor's time without the casting."""
    if network is None:  # casting, volume and all
        begin = time.process_time()
        height, width = view.mask.shape
        drawn = field.draw(view.params, view.camera, (width, height)).over(_WHITE)
        return np.round(255 * drawn).astype(np.uint8), time.process_time() - begin
    whole = [View(view.image, np.ones_like(view.mask), view.camera, 0)]
    rays = training_rays(whole, view.params, field.model, field.canonical, field.config.cast, field.config.seed)
    picture = np.full((*view.mask.shape, 3), 255, np.uint8)
    begin = time.process_time()
    with torch.no_grad():
        sums, opacity = network_rays(network, field, rays, np.arange(len(rays)))
    spent = time.process_time() - begin
    picture.reshape(-1, 3)[rays.pixels] = np.round(255 * (sums + 1 - opacity[:, None]).clamp(0, 1).numpy())
    return picture, spent


def report(rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    names = ("pose", "camera", "both")
    table = Table("field", "s", "passes", *names, "s a picture")
    for row in rows:
        cells = [f"{row[name]['psnr_db']:.1f} / {row[name]['ssim']:.3f}" for name in names]
        seconds = (f"{row['seconds']:.0f}", f"{row['passes']:.2f}")
        table.add_row(row["field"], *seconds, *cells, f"{row['seconds_a_picture']:.2f}")
    CONSOLE.print(table)


if __name__ == "__main__":
    main()
