"""Networks run by onnxruntime: the one place where it is imported and where sessions are opened."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from bodyfit.body.assets import asset_path
from bodyfit.detect.networks.threads import threads_from_environment
from bodyfit.errors import DetectorError
from bodyfit.runtime.environment import environment
from bodyfit.runtime.forking import abandon, watch_forks

__all__ = ["Network", "import_onnxruntime", "shipped_network"]


def import_onnxruntime() -> Any:
    """The module onnxruntime, with its telemetry off unless the user has set ORT_DISABLE_TELEMETRY.

    On import, version 1.31 writes a device identifier and a queue of events into the user's cache, and some seconds
    later it looks up its server's name. Only the variable prevents both, so where something else has imported
    onnxruntime before, all that can be done is to send no further events. Raises `DetectorError`.
    """
    try:
        with environment(ORT_DISABLE_TELEMETRY="1"):
            import onnxruntime
    except ImportError as error:
        raise DetectorError(f"onnxruntime cannot be imported ({error}); pip install onnxruntime") from None
    if "ORT_DISABLE_TELEMETRY" not in os.environ:
        onnxruntime.disable_telemetry_events()
    return onnxruntime


class Network:
    """An ONNX file opened for inference. Threads may share it, and a forked child opens it again by itself."""

    def __init__(
        self, path: str | Path, *, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
    ) -> None:
        """`threads` are those of one run, 0 for one a core; of `providers` those are used that onnxruntime has.

        Raises `DetectorError` where the file cannot be loaded.
        """
        self._path, self._threads, self._providers = str(path), threads, tuple(providers)
        self._opening = Lock()
        self._session: Any = self._open()
        watch_forks(self)

    @property
    def inputs(self) -> list[Any]:
        """Descriptions of the inputs, with `name` and `shape`."""
        return self._opened().get_inputs()

    @property
    def outputs(self) -> list[Any]:
        """Descriptions of the outputs, with `name` and `shape`."""
        return self._opened().get_outputs()

    def blank_inputs(self) -> dict[str, np.ndarray]:
        """Zeros for all inputs, of numbers or bytes, 1 along axes of any length: to try or time a network by."""
        shapes = {i.name: [size if isinstance(size, int) else 1 for size in i.shape] for i in self.inputs}
        types = {i.name: np.uint8 if i.type == "tensor(uint8)" else np.float32 for i in self.inputs}
        return {name: np.zeros(shape, types[name]) for name, shape in shapes.items()}

    @property
    def providers(self) -> list[str]:
        """What onnxruntime runs it by, the first choice first."""
        return self._opened().get_providers()

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs of those names, None for all of them. Raises `DetectorError`."""
        session = self._opened()
        try:
            return session.run(None if outputs is None else list(outputs), dict(inputs))
        except Exception as error:  # onnxruntime has an exception for each of its codes, with no common base
            raise DetectorError(f"{self._path}: the network failed: {error}") from error

    def after_fork(self) -> None:
        """Leave the session, whose threads stayed in the parent; the next run opens another."""
        abandon(self._session)
        self._session, self._opening = None, Lock()

    def _opened(self) -> Any:
        session = self._session
        if session is None:
            with self._opening:
                session = self._session = self._session or self._open()
        return session

    def _open(self) -> Any:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # idle threads leave the cores alone
        options.log_severity_level = 3
        providers = [name for name in self._providers if name in onnxruntime.get_available_providers()]
        try:
            return onnxruntime.InferenceSession(self._path, options, providers=providers)
        except Exception as error:  # as in run
            reason = " ".join(str(error).split())[:200]
            raise DetectorError(f"{self._path}: onnxruntime cannot load it ({reason})") from None


def shipped_network(name: str, threads: int | None = None) -> Network:
    """The network assets/detector/NAME.onnx.

    `threads` are those of one run; None asks OMP_NUM_THREADS, and without it takes a thread for each core.
    """
    return Network(
        asset_path("detector", f"{name}.onnx"), threads=threads_from_environment() if threads is None else threads
    )
