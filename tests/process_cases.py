"""Programs of tests/test_processes.py: each case is a user's script, run in an interpreter of its own.

torch has two threads here, as on any machine with two cores: the first parallel region starts GNU OpenMP's threads,
which a forked child does not have.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch

import bodyfit

PICTURE = Path(__file__).resolve().parents[1] / "assets/samples/standing.jpg"
STANDING = np.array(  # COCO's 17 keypoints of somebody who stands before the camera; pixels, confidence
    [
        *([321, 112, 0.9], [329, 104, 0.9], [313, 104, 0.9], [341, 109, 0.9], [301, 109, 0.9]),
        *([366, 168, 0.9], [276, 168, 0.9], [380, 236, 0.9], [262, 236, 0.9], [384, 300, 0.9], [258, 300, 0.9]),
        *([349, 306, 0.9], [293, 306, 0.9], [347, 402, 0.9], [295, 402, 0.9], [345, 492, 0.9], [297, 492, 0.9]),
    ],
    np.float32,
)


def fit(shift_px: int = 0) -> bodyfit.FitResult:
    """One person, moved to the right."""
    keypoints = STANDING + np.array([shift_px, 0, 0], np.float32)
    return bodyfit.fit_keypoints(keypoints[None], layout="coco17", image_size=(640, 600))


def use_two_threads() -> None:
    torch.set_num_threads(2)
    torch.rand(1000, 1000).exp().sum()  # a parallel region


def check(results: list[bodyfit.FitResult], expected: list[bodyfit.FitResult]) -> None:
    for result, one in zip(results, expected, strict=True):
        assert result.status == one.status
        assert result.status[0].ok
        torch.testing.assert_close(result.joints, one.joints, rtol=0, atol=1e-5)


def in_child(work: Callable[[], None]) -> None:
    """Do it in a forked child that ends as programs end, destructors and all."""
    child = os.fork()
    if child == 0:
        work()
        sys.exit(0)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with {os.waitstatus_to_exitcode(status)}"


def fork() -> None:
    """After fits, bodies and networks in the parent, by `os.fork` and by a pool."""
    from bodyfit.detect import load_detector
    from bodyfit.images.frame import read_image

    use_two_threads()
    detector, frame = load_detector(), read_image(PICTURE)
    (people,) = detector.detect([frame])
    bodyfit.random_bodies(4)
    expected = [fit(shift) for shift in (0, 20)]

    def again() -> None:
        check([fit()], expected[:1])
        (found,) = detector.detect([frame])
        np.testing.assert_allclose(found[0].xyc, people[0].xyc, atol=1e-3)
        worker = threading.Thread(target=check, args=([fit(20)], expected[1:]))
        worker.start()
        worker.join()

    in_child(again)
    pool("fork", expected)


def fork_before_bodyfit() -> None:
    """The parent has run torch, and `bodyfit` is first used in the children."""
    use_two_threads()
    assert "bodyfit.runtime.parallel" not in sys.modules
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as workers:
        (result,) = workers.map(fit, [0])
    check([result], [fit()])


def mediapipe_after_fork() -> None:
    """MediaPipe's graphs cannot go on in a child: an error says so at once, and the child ends by itself."""
    from bodyfit.detect import load_detector
    from bodyfit.errors import DetectorError
    from bodyfit.images.frame import read_image

    detector, frame = load_detector("mediapipe"), read_image(PICTURE)
    assert len(detector.detect([frame])[0]) == 1

    def again() -> None:
        for use in (lambda: detector.detect([frame]), lambda: load_detector("mediapipe")):
            with pytest.raises(DetectorError, match=r'get_context\("spawn"\)'):
                use()

    in_child(again)
    assert len(detector.detect([frame])[0]) == 1


def pool(method: str, expected: list[bodyfit.FitResult] | None = None) -> None:
    """Results come back from a pool, by value: no file descriptor stays open for them."""
    use_two_threads()
    expected = expected or [fit(shift) for shift in (0, 20)]
    descriptors = Path("/proc/self/fd")
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as workers:
        results = [next(workers.map(fit, [0]))]
        before = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
        results += workers.map(fit, [20] * 3)
        if descriptors.is_dir():
            assert len(list(descriptors.iterdir())) <= before
    check(results[:2], expected)


class Fits(torch.utils.data.Dataset):
    """A training set that poses and fits as it goes."""

    def __init__(self, model: bodyfit.BodyModel) -> None:
        self.model = model

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        result = fit(20 * index)
        return {"joints": result.joints[0], "vertices": self.model(**result.params).vertices[0]}


def loader() -> None:
    """Workers of torch's DataLoader."""
    use_two_threads()
    expected = [fit(20 * i) for i in range(2)]
    model = bodyfit.load_model("open")
    model(**expected[0].params)
    batches = list(torch.utils.data.DataLoader(Fits(model), batch_size=1, num_workers=2))
    joints = torch.cat([batch["joints"] for batch in batches])
    torch.testing.assert_close(joints, torch.cat([one.joints for one in expected]), rtol=0, atol=1e-5)
    vertices = torch.cat([model(**one.params).vertices for one in expected])
    torch.testing.assert_close(torch.cat([batch["vertices"] for batch in batches]), vertices, rtol=0, atol=1e-5)


def threads_and_event_loop() -> None:
    """Several threads fit at once, and a fit runs within an event loop, as in a notebook."""
    use_two_threads()
    expected = [fit(20 * i) for i in range(3)]
    found: dict[int, bodyfit.FitResult] = {}
    workers = [threading.Thread(target=lambda i=i: found.update({i: fit(20 * i)})) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    check([found[i] for i in range(3)], expected)
    assert torch.get_num_threads() == 2

    async def cell() -> None:
        check([fit()], expected[:1])
        check([await asyncio.to_thread(fit, 20)], expected[1:2])

    asyncio.run(cell())


def one_process() -> None:
    """All that starts from one interpreter, for imports take longer than fits."""
    threads_and_event_loop()
    fork()
    loader()


if __name__ == "__main__":
    case, *arguments = sys.argv[1:]
    globals()[case](*arguments)
    print("done")
