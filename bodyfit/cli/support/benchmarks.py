"""What `bodyfit eval` does with a benchmark's whole data set."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from bodyfit.cli.support import common

if TYPE_CHECKING:
    from bodyfit.evaluate.benchmarks.table import Table

__all__ = ["BENCHMARKS", "Benchmark"]

BENCHMARKS = ("3dpw", "emdb", "emdb2", "rich", "agora", "h36m", "mpi-inf-3dhp")
"""Names of `evaluate.benchmarks.PROTOCOLS`, which take seconds to import."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark as it was asked for."""

    dataset: str
    folder: Path
    model: str
    truth_model: str | None
    detector: str | None
    motions: bool
    every: int
    regressor: Path | None

    def run(self, out: Path | None, as_json: bool) -> int:
        """Fit the people of the data set and say how far off they are, by its protocol."""
        import torch

        from bodyfit.body.model import load_model
        from bodyfit.evaluate import load_regressor
        from bodyfit.evaluate.benchmarks.run import BenchmarkConfig, run_benchmark

        config = BenchmarkConfig(
            detector=self.detector,
            motions=self.motions,
            every=self.every,
            regressor=None if self.regressor is None else load_regressor(self.regressor),
        )
        own = self.truth_model
        truth = None if own is None else cache(lambda gender: load_model(own, gender=gender, dtype=torch.float64))
        table = run_benchmark(
            self.dataset,
            self.folder,
            load_model(self.model),
            truth=truth,
            config=config,
            out=None if out is None else common.output_folder(out),
            tell=partial(common.error, label=self.dataset),
        )
        if as_json:
            common.say_json({"dataset": self.dataset, "folder": self.folder, **asdict(table)})
        else:
            _say(table)
        return common.OK if table.lines and all(line.counted for line in table.lines) else common.SOME_FAILED


def _say(table: Table) -> None:
    common.say(table.title)
    for name, words in table.protocol.items():
        common.say(f"{name:10} {words}")
    for line in table.lines:
        value = f"{line.metric:20} {line.mean:9.2f} {line.unit:10}"
        common.say(f"{value} median {line.median:.2f}, {line.counted} counted, {line.failed} failed")
    common.say(f"{table.people} people" + (f", {table.left_out} shots left out" if table.left_out else ""))
