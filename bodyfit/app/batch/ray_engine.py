"""Run the stages on Ray Data: actors detect and fit, here or on a cluster; the driver writes and records.

Ray starts lost actors again and gives them their block once more; each picture's line is written once, here. An actor
that looks has a worker process of its own, so that a picture that crashes or hangs costs itself alone, as without Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bodyfit.app.batch.items import Item
from bodyfit.app.batch.pool import Failure, WorkerPool
from bodyfit.app.batch.run import Engine
from bodyfit.app.batch.stages import Fitting, Looking, fitted
from bodyfit.errors import BodyfitError, OptionError
from bodyfit.fit.result import FitResult
from bodyfit.io.results.params import result_arrays, result_from
from bodyfit.runtime.environment import environment

__all__ = ["ray_engine", "ray_started"]

_BLOCK = 16
"""Items that an actor takes at a time, and that are looked at again when it is lost."""
_FIT_BLOCK = 64
"""Pictures whose people are fitted together."""
_LONGEST_TEMP = 30
"""Characters of the temporary folder's path: Ray's sockets lie deep in it, and a socket's path holds 107 at most."""
_LOOKERS_A_FITTER = 16
"""Looking takes about twenty times as long as fitting."""


class _Looker:
    """An actor: rows of pickled items to rows of pickled answers."""

    def __init__(self, looking: Looking, timeout_s: float) -> None:
        self._pool = WorkerPool(looking, 1, timeout_s=timeout_s).__enter__()  # it ends with this actor's process

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        items = (pickle.loads(item) for item in batch["item"])
        return {"seen": [pickle.dumps(answer) for answer in self._pool.answers(items) if answer is not None]}


class _Fitter:
    """An actor: rows of what was seen to rows of people."""

    def __init__(self, fitting: Fitting) -> None:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._fit = replace(fitting, model=fitting.model.to(device))()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        answers = fitted((pickle.loads(seen) for seen in batch["seen"]), self._fit)
        return {"answer": [_packed(answer) for answer in answers]}


def ray_engine(workers: int | None = None, *, address: str | None = None, timeout_s: float = 120.0) -> Engine:
    """An engine for `run_batch`; `address` is a cluster's as `ray.init` takes it, None for one on this machine.

    `workers` actors look, a core each (default: all of the cluster's); one for each sixteen of them, or for each GPU,
    fits. Raises `OptionError` where Ray is not installed or the cluster is not there.
    """
    ray, started = ray_started(address, (workers or os.cpu_count() or 1) + 1)

    def through(
        items: Sequence[Item], looking: Looking, fitting: Fitting
    ) -> Iterator[tuple[Item, FitResult | Failure | None]]:
        with started():
            try:
                yield from _answers(ray.data, ray.cluster_resources(), workers, timeout_s, items, looking, fitting)
            except ray.exceptions.RayError as fault:
                cause = getattr(fault, "cause", None) or fault.__cause__ or fault
                raise BodyfitError(
                    f"Ray ended the run ({' '.join(str(cause).split())[-300:]}); "
                    "what is finished is safe: go on with resume=True"
                ) from fault

    return through


def ray_started(address: str | None, cores: int) -> tuple[Any, Callable[[], contextlib.AbstractContextManager[None]]]:
    """Ray, and what connects to a cluster or begins one of so many cores here, unless that was done already.

    Raises `OptionError` where Ray is not installed.
    """
    try:
        import ray  # pyright: ignore[reportMissingImports]
        import ray.data  # pyright: ignore[reportMissingImports]
        import ray.exceptions  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise OptionError(f"Ray is not installed ({error}): pip install 'bodyfit[ray]'") from None
    return ray, lambda: contextlib.nullcontext() if ray.is_initialized() else _started(ray, address, cores)


@contextlib.contextmanager
def _started(ray: Any, address: str | None, cores: int) -> Iterator[None]:
    """Ray, connected to a cluster or begun here, without usage statistics; of its own it leaves no file behind.

    Raises `OptionError`.
    """
    ours = address is None
    folder = tempfile.mkdtemp(prefix="ray-") if ours and len(tempfile.gettempdir()) <= _LONGEST_TEMP else None
    # A token of this run's alone, or Ray would write one into the user's home.
    token = {"RAY_AUTH_TOKEN": secrets.token_hex(32)} if ours and "RAY_AUTH_TOKEN_PATH" not in os.environ else {}
    try:
        try:
            with environment(RAY_USAGE_STATS_ENABLED="0", **token):
                ray.init(
                    address=address,
                    num_cpus=cores if ours else None,
                    include_dashboard=False if ours else None,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **({} if folder is None else {"_temp_dir": folder}),
                )
        except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as fault:
            why = " ".join(str(fault).split())
            what = "Ray does not start here" if ours else f"address={address!r}: no Ray cluster can be reached there"
            raise OptionError(f"{what} ({why})") from None
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        yield
    finally:
        ray.shutdown()
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _answers(
    data: Any,
    has: Mapping[str, float],
    workers: int | None,
    timeout_s: float,
    items: Sequence[Item],
    looking: Looking,
    fitting: Fitting,
) -> Iterator[tuple[Item, FitResult | Failure | None]]:
    """The pipeline on a cluster that `has` so many CPUs and GPUs."""
    cores, gpus = int(has.get("CPU", 1)), int(has.get("GPU", 0))
    lookers = max(1, min(workers or cores - 1, cores - 1))
    fitters = gpus or -(-lookers // _LOOKERS_A_FITTER)
    data.DataContext.get_current().enable_progress_bars = False
    seen = data.from_items(
        [{"item": pickle.dumps(item)} for item in items], override_num_blocks=-(-len(items) // _BLOCK)
    ).map_batches(
        _Looker,
        fn_constructor_args=(looking, timeout_s),
        batch_size=None,
        num_cpus=1,
        compute=data.ActorPoolStrategy(min_size=1, max_size=lookers),
    )
    people = seen.map_batches(
        _Fitter,
        fn_constructor_args=(fitting,),
        batch_size=_FIT_BLOCK,
        num_gpus=1 if gpus else 0,
        num_cpus=0 if gpus or cores < 2 else 1,
        compute=data.ActorPoolStrategy(min_size=1, max_size=fitters),
    )
    for row in people.iter_rows():
        yield _unpacked(row["answer"])


def _packed(answer: tuple[Item, FitResult | Failure | None]) -> bytes:
    """An answer for another machine, which may have no GPU: arrays as in a file."""
    item, result = answer
    return pickle.dumps((item, result_arrays(result, 0.0) if isinstance(result, FitResult) else result))


def _unpacked(packed: bytes) -> tuple[Item, FitResult | Failure | None]:
    item, result = pickle.loads(packed)
    return item, result_from(Path(item.target), result) if isinstance(result, dict) else result
