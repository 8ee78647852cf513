"""`bodyfit view`: results in a live viewer."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from bodyfit.cli.support import common

__all__ = ["view"]


def view(
    folder: Annotated[Path, typer.Argument(help="What `bodyfit fit` or `bodyfit video` wrote, or one personN.npz.")],
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="Port to serve on; else the next free one.")
    ] = 8080,
    host: Annotated[
        str, typer.Option("--host", help="Address to serve on; 0.0.0.0 lets other machines look.")
    ] = "127.0.0.1",
    no_open: Annotated[bool, typer.Option("--no-open", help="Do not open a browser, only say the address.")] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Body model in place of the one that the results name.")
    ] = None,
    avatar: Annotated[
        Path | None, typer.Option("--avatar", help="avatar.npz whose surface and colours the bodies have.")
    ] = None,
    verbose: common.VerboseOption = False,
) -> int:
    """Look at results in the browser, and change them.

    The bodies stand before their camera with the photograph behind them. Sliders change the shape and turn joints; the
    mesh follows and can be downloaded. No display is needed on the machine that runs this. Ctrl-C ends it.

    Examples:
        bodyfit view out
        bodyfit view out/photo --port 9000 --no-open
    """
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.folder import read_results
    from bodyfit.io.results.avatar import load_avatar
    from bodyfit.viewer.server import Viewer

    results = read_results(folder)
    for failure in results.failures if verbose else ():
        common.error(failure.message, label="left out")
    person = None if avatar is None else load_avatar(avatar)
    viewer = Viewer(results, models=Models(model), avatar=person, host=host, port=port)
    try:
        common.say(f"{viewer.url} shows {folder}; Ctrl-C ends it")
        if not no_open and _has_display():
            webbrowser.open(viewer.url)
        viewer.wait()
    except KeyboardInterrupt:  # the way to end it
        pass
    finally:
        viewer.stop()
    return common.OK


def _has_display() -> bool:
    """Without one, Python would open a text browser in this terminal."""
    return not sys.platform.startswith("linux") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
