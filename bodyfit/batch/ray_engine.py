"""The same stages on Ray Data: actors look at pictures here or on a cluster; who started the run fits and writes.

Ray starts a lost worker's blocks again elsewhere; each picture's line is written once, here, so that nothing comes
twice. Looking takes twenty times as long as fitting, which one process, on a GPU if there is one, does for all.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from bodyfit.batch.crew import Failure
from bodyfit.batch.items import Item
from bodyfit.batch.run import Engine
from bodyfit.batch.stages import Looking, Seen
from bodyfit.errors import BodyfitError, OptionError

__all__ = ["ray_engine"]

_BLOCK = 4
"""Items that an actor takes at a time, and that are looked at again when it is lost."""


class _Looker:
    """An actor: a batch of pickled items to pickled answers."""

    def __init__(self, looking: Looking) -> None:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        self._look = looking()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"answer": [pickle.dumps(self._answer(pickle.loads(item))) for item in batch["item"]]}

    def _answer(self, item: Item) -> tuple[Item, Seen | Failure]:
        try:
            return item, self._look(item)
        except BodyfitError as fault:
            return item, Failure(str(fault))
        except Exception as fault:  # ours, or a library's: it must not cost the other items
            return item, Failure(f"internal error: {type(fault).__name__}: {' '.join(str(fault).split())}")


def ray_engine(workers: int | None = None, *, address: str | None = None) -> Engine:
    """An engine for `run_batch`; `address` is a cluster's as `ray.init` takes it, None for one on this machine.

    `workers` actors take a core each (default: as many as the cluster has). Raises `OptionError` where Ray is not
    installed or the cluster is not there.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise OptionError("--engine ray needs Ray: pip install 'bodyfit[ray]'") from None

    def looked_at(items: Sequence[Item], looking: Looking) -> Iterator[tuple[Item, Seen | Failure] | None]:
        if not ray.is_initialized():
            try:
                ray.init(
                    address=address, log_to_driver=False, include_dashboard=False, num_cpus=_cores(workers, address)
                )
            except (ConnectionError, RuntimeError, ValueError) as fault:
                raise OptionError(f"--address {address}: no Ray cluster can be reached there ({fault})") from None
        count = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items(
            [{"item": pickle.dumps(item)} for item in items],
            override_num_blocks=max(1, min(len(items) // _BLOCK, 10 * count)),
        )
        answers = rows.map_batches(
            _Looker,  # pyright: ignore[reportArgumentType]
            fn_constructor_args=(looking,),
            batch_size=_BLOCK,
            num_cpus=1,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=count),
        )
        for row in answers.iter_rows():
            yield pickle.loads(row["answer"])

    return looked_at


def _cores(workers: int | None, address: str | None) -> int | None:
    """Cores that a Ray of our own may use: one for each actor and one for Ray's tasks."""
    return None if address is not None else (workers or os.cpu_count() or 1) + 1
