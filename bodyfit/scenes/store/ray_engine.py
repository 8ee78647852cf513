"""Draw scenes on Ray: tasks draw, here or on a cluster; the driver writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from bodyfit.app.batch.pool import Failure, in_words
from bodyfit.app.batch.ray_engine import ray_started
from bodyfit.errors import BodyfitError
from bodyfit.scenes.store.one import SceneJob, scene_files

__all__ = ["SceneEngine", "scene_ray_engine"]

SceneEngine = Callable[[SceneJob, list[int]], Iterator[tuple[int, dict[str, bytes] | Failure]]]
"""Draws the scenes of a job: yields the number and the files of each, in any order."""
_AHEAD = 4
"""Scenes that are submitted for each core of a cluster, so that none is idle."""


def scene_ray_engine(workers: int | None = None, *, address: str | None = None) -> SceneEngine:
    """An engine for `write_scenes`; `address` is a cluster's as `ray.init` takes it, None for one on this machine.

    `workers` tasks draw at a time, a core each (default: all of the cluster's). A photograph folder must be reachable
    from all nodes. Raises `OptionError` where Ray is not installed or the cluster is not there.
    """
    ray, started = ray_started(address, workers or os.cpu_count() or 1)

    def through(job: SceneJob, numbers: list[int]) -> Iterator[tuple[int, dict[str, bytes] | Failure]]:
        with started():
            draw = ray.remote(num_cpus=1, max_retries=2)(_drawn)
            shared = ray.put(job)
            # None waits where their number is set: a large cluster would draw all that are submitted.
            at_once = workers or _AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
            waiting: dict[Any, int] = {}
            left = iter(numbers)
            for i in left:
                waiting[draw.remote(shared, i)] = i
                if len(waiting) >= at_once:
                    yield from _first(ray, waiting)
            while waiting:
                yield from _first(ray, waiting)

    return through


def _first(ray: Any, waiting: dict[Any, int]) -> Iterator[tuple[int, dict[str, bytes] | Failure]]:
    """Take what is done first."""
    done, _ = ray.wait(list(waiting), num_returns=1)
    for task in done:
        i = waiting.pop(task)
        try:
            yield i, ray.get(task)
        except ray.exceptions.WorkerCrashedError as fault:
            yield i, Failure(f"its process died, three times ({' '.join(str(fault).split())[-200:]})")
        except ray.exceptions.RayError as fault:
            raise BodyfitError(
                f"Ray ended the run ({' '.join(str(fault).split())[-300:]}); what is finished is safe: go on with "
                "resume=True"
            ) from fault


def _drawn(job: SceneJob, i: int) -> dict[str, bytes] | Failure:
    """The files of a scene, drawn on one thread."""
    import torch

    torch.set_num_threads(1)
    try:
        return scene_files(job, i)
    except Exception as fault:  # it costs this scene
        return Failure(in_words(fault))
