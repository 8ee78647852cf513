"""MediaPipe's graphs, run picture by picture on parts of a picture, from the networks in its own wheel."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
from jaxtyping import UInt8

from bodyfit.detect.networks.crops import averaged
from bodyfit.detect.regions import Box
from bodyfit.errors import DetectorError
from bodyfit.runtime.environment import environment
from bodyfit.runtime.forking import abandon, watch_forks

__all__ = ["Graph", "part_of", "starting"]


@contextlib.contextmanager
def starting() -> Iterator[None]:
    """Where graphs are made and first run: quietly, and with the reason in words where MediaPipe does not start."""
    # MediaPipe's C++ parts write their start-up notes straight to the process's standard error.
    with _quiet_stderr(), environment(GLOG_minloglevel="2", TF_CPP_MIN_LOG_LEVEL="2"):
        try:
            package = _import_core()
            # The messages that packets carry are known once their modules are imported.
            from mediapipe.framework.formats import classification_pb2, detection_pb2, landmark_pb2, rect_pb2  # noqa: F401  # pyright: ignore[reportMissingImports]
            from mediapipe.python._framework_bindings import resource_util  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise DetectorError(
                f'mediapipe cannot be imported ({error}); pip install "bodyfit[mediapipe]" (Python 3.10 to 3.12)'
            ) from None
        try:
            resource_util.set_resource_dir(str(Path(package).parent))
            yield
        except (RuntimeError, ValueError, OSError) as error:
            raise DetectorError(
                f"mediapipe does not start: {error}; bodyfit needs mediapipe==0.10.21, the last version whose package "
                "carries its networks"
            ) from None


class _Core(ModuleType):
    """The package mediapipe before its `__init__` has run; the first name that it lacks runs it."""

    def __getattr__(self, name: str) -> Any:
        if self.__spec__ is None or self.__spec__.loader is None or (name[:2] == "__" and name != "__version__"):
            raise AttributeError(f"module 'mediapipe' has no attribute {name!r}")  # asked by import and by inspect
        self.__class__ = ModuleType  # pyright: ignore[reportAttributeAccessIssue]
        self.__spec__.loader.exec_module(self)
        return getattr(self, name)


def _import_core() -> str:
    """Make mediapipe's modules importable one by one, and return the package's folder.

    Its `__init__` imports matplotlib, which writes a cache of fonts into the user's home, an audio library and more:
    none of it is needed here. Whoever imports mediapipe for themselves gets all of it as ever. Raises `ImportError`.
    """
    if "mediapipe" not in sys.modules:
        spec = importlib.util.find_spec("mediapipe")
        if spec is None:
            raise ImportError("No module named 'mediapipe'")
        core = _Core("mediapipe")
        core.__spec__, core.__loader__, core.__file__ = spec, spec.loader, spec.origin
        core.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["mediapipe"] = core
    return next(iter(sys.modules["mediapipe"].__path__))


def part_of(image: UInt8[np.ndarray, "H W 3"], box: Box, side_px: float) -> tuple[Any, tuple[float, float]]:
    """A box of the picture as a packet, `averaged`, and how much larger than the box its padded sides are."""
    from mediapipe.python import packet_creator  # pyright: ignore[reportMissingImports]
    from mediapipe.python._framework_bindings.image_frame import ImageFormat  # pyright: ignore[reportMissingImports]

    part, factor = averaged(image, box, side_px)
    w, h = box[2] - box[0], box[3] - box[1]
    scale = (part.shape[1] * factor / w, part.shape[0] * factor / h)  # the last pixel may stand for fewer
    return packet_creator.create_image_frame(data=part, image_format=ImageFormat.SRGB), scale


class Graph:
    """A MediaPipe graph that is run picture by picture. Not safe to share between threads, nor to use after a fork."""

    started_in: ClassVar[int | None] = None
    """The process in which the first graph was started: a fork of it inherits locks of threads that it has not."""

    def __init__(self, config: str, outputs: tuple[str, ...], side_packets: Mapping[str, Any]) -> None:
        """Raises `DetectorError` in a process that was forked from one that had started a graph."""
        from mediapipe.python._framework_bindings import calculator_graph  # pyright: ignore[reportMissingImports]

        Graph.started_in = Graph.started_in or os.getpid()
        _check_not_forked()
        self._graph = calculator_graph.CalculatorGraph(graph_config=config)
        self._packets: dict[str, Any] = {}
        self._time = 0
        for name in outputs:
            self._graph.observe_output_stream(name, self._packets.__setitem__)
        self._graph.start_run(dict(side_packets))
        watch_forks(self)

    def run(self, **inputs: Any) -> dict[str, Any]:
        """The packets that come out; a stream without one is left out. Raises `DetectorError`."""
        _check_not_forked()
        self._time += 1
        self._packets.clear()
        try:
            for name, packet in inputs.items():
                self._graph.add_packet_to_input_stream(name, packet.at(self._time))
            self._graph.wait_until_idle()
        except (RuntimeError, ValueError) as error:
            raise DetectorError(f"mediapipe failed: {error}") from error
        return dict(self._packets)

    def after_fork(self) -> None:
        """Keep the graph from being ended in a child, which would wait for threads that stayed in the parent."""
        abandon(self._graph)


def _check_not_forked() -> None:
    if Graph.started_in != os.getpid():
        raise DetectorError(
            "mediapipe was started before this process was forked, and cannot run on both sides of a fork; start "
            'workers with multiprocessing.get_context("spawn"), load the detector in them alone, or take "movenet"'
        )


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what C++ code writes to file descriptor 2 from the user while the networks start; exceptions pass."""
    try:
        sys.stderr.flush()
        stderr_copy = os.dup(2)
    except (OSError, ValueError, AttributeError):  # no standard error at all, as in a window without a console
        yield
        return
    try:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr_copy, 2)
        os.close(stderr_copy)
