"""The process `bodyfit`: `python -m bodyfit.cli` is the same. Ctrl-C is minded before anything is imported."""

from __future__ import annotations

import sys
from typing import NoReturn

from bodyfit.cli import interrupt

__all__ = ["run"]


def run() -> NoReturn:
    """Run the program with the process's arguments and end with its exit code."""
    interrupt.listen()
    from bodyfit.cli.main import main

    code = main()
    if code == interrupt.EXIT_CODE:
        interrupt.leave()
    sys.exit(code)


if __name__ == "__main__":
    run()
