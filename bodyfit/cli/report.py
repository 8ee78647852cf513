"""`bodyfit report`: results as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

__all__ = ["report"]


def report(
    folder: Annotated[Path, typer.Argument(help="What `bodyfit fit` wrote: its folder, or one personN.npz.")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The page to write; report.html in FOLDER by default.")
    ] = None,
    title: Annotated[str | None, typer.Option("--title", help="Its heading; the folder's name by default.")] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Body model in place of the one that the results name.")
    ] = None,
    verbose: common.VerboseOption = False,
) -> int:
    """Show results in one web page that needs no network.

    The page holds the overlay pictures, the numbers, and every body to turn with the mouse; it can be sent by mail and
    opens in any browser of the last years. Numbers are readable without JavaScript.

    Examples:
        bodyfit report out
        bodyfit report out -o holiday.html --title "Our holiday"
    """
    from bodyfit.app.results.bodies import Models
    from bodyfit.app.results.folder import read_results
    from bodyfit.report.page import write_page

    results = read_results(folder)
    path = results.folder / "report.html" if out is None else out
    if path.is_dir():
        raise OptionError(f"--out {path} is a folder; give the page's name, {path / 'report.html'} say")
    size = write_page(results, path, title=title, models=Models(model))
    people = sum(len(scene.people) for scene in results.scenes)
    for failure in results.failures if verbose else ():
        common.error(failure.message, label="left out")
    common.say(f"{path}: {people} {'person' if people == 1 else 'people'}, {size / 1e6:.1f} MB")
    return common.OK
