"""The process `bodyfit`: `python -m bodyfit.cli` is the same.

Here stands what concerns the process alone and has to come before imports: Ctrl-C, its streams, its environment.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from bodyfit.cli.support import interrupt

__all__ = ["run"]


def run() -> NoReturn:
    """Run the program with the process's arguments and end with its exit code."""
    interrupt.listen()
    _open_streams()
    # Torch's threads else spin while they wait, and a fit of one person on a busy machine takes seconds instead of 0.2.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from bodyfit.cli.main import main

    code = main()
    if code == interrupt.EXIT_CODE:
        interrupt.leave()
    sys.exit(code)


def _open_streams() -> None:
    """Give the process the standard streams that it was started without (`>&-`), leading nowhere.

    The next file to be opened would else get the number of a stream, and libraries' messages with it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115


if __name__ == "__main__":
    run()
