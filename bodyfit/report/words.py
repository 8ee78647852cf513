"""Format people's numbers as HTML that is readable without scripts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from bodyfit.app.results.bodies import Numbers, PersonFigures
from bodyfit.app.results.find import Failure
from bodyfit.app.results.folder import Results, ResultScene

__all__ = ["card", "failures", "overview"]

_SOURCES = {
    "given": "as given",
    "exif": "from the picture's EXIF",
    "found": "found from the clip",
    "guess": "a guess; distance and size hang on it",
}
_PILLS = {"converged": "", "max_steps": " fair", "filled": " fair"}
_GIRTHS = ("chest", "waist", "hip", "neck", "upper_arm", "thigh", "arm_length", "leg_length", "inseam")


def overview(results: Results, figures: Sequence[Sequence[PersonFigures]]) -> str:
    """Make the table of all people, with links."""
    rows = []
    for i, (scene, people) in enumerate(zip(results.scenes, figures, strict=True)):
        for one in people:
            n = one.numbers
            cells = [
                number(n.error_px, 1, "px"),
                number(n.error_percent, 1, "%"),
                _height(n),
                number(n.distance_m, 2, "m"),
            ]
            rows.append(
                f'<tr><td><a href="#s{i}">{escape(scene.name)}</a></td><td>{_swatch(one)}{one.person.number}</td>'
                f"<td>{_pill(n)}{_reason(n)}</td>" + "".join(f'<td class="n">{cell}</td>' for cell in cells) + "</tr>\n"
            )
    heads = "".join(f'<th class="n">{head}</th>' for head in ("error", "of height", "height", "distance"))
    return (
        f'<div class="scroll"><table><thead><tr><th>picture</th><th>person</th><th>status</th>{heads}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>"
    )


def card(one: PersonFigures | None, poster: str | None, scene: ResultScene, *, bodies: str = "") -> str:
    """Make the card of a person with body and numbers, or of all `bodies` of the scene together."""
    if one is None:
        stage = _stage(bodies, "All bodies, where they stand", None, "side", clip=scene.fps > 0)
        return f'<article class="card wide"><h3>Together</h3>{stage}</article>\n'
    name = f"Person {one.person.number}"
    body = f"{one.index}" if one.index >= 0 else ""
    stage = _stage(body, f"{name} of {scene.name}, to turn", poster, "photo", clip=scene.fps > 0) if body else ""
    return f"""<article class="card">{stage}<div>
<h3>{_swatch(one)}{name} {_pill(one.numbers)}</h3>
{_reason(one.numbers)}{_figures(one)}</div>
<div>{_measured(one.numbers, unfold=len(scene.people) == 1)}{_joints(one.numbers)}</div></article>
"""


def failures(items: Sequence[Failure]) -> str:
    """Make the section of inputs without a body, with reasons."""
    if not items:
        return ""
    rows = "".join(f"<tr><td>{escape(item.name)}</td><td>{escape(item.message)}</td></tr>\n" for item in items)
    return f'<section><h2>Without a body</h2><div class="scroll"><table><tbody>\n{rows}</tbody></table></div></section>'


def number(value: float, digits: int, unit: str) -> str:
    """Format a number with its unit, a dash for NaN."""
    return f"{value:.{digits}f}&#8239;{unit}" if math.isfinite(value) else "–"


def _stage(bodies: str, label: str, poster: str | None, view: str, *, clip: bool) -> str:
    picture = f'<img alt="" src="{poster}">' if poster else ""
    time = (
        '<label><button type="button" data-play aria-pressed="false" aria-label="Play">▶</button>'
        '<input type="range" data-pose min="0" value="0" step="1" aria-label="Time"><output></output></label>'
        if clip
        else ""
    )
    looks = "".join(
        f'<button type="button" data-look="{look}">{look}</button>' for look in ("photo", "side", "back", "top")
    )
    return (
        f'<div class="stage" data-bodies="{bodies}" data-view="{view}">{picture}'
        f'<canvas tabindex="0" role="img" aria-label="{escape(label)}"></canvas>'
        f'<div class="tools">{time}{looks}'
        '<button type="button" data-joints aria-pressed="false">joints</button></div></div>'
    )


def _figures(one: PersonFigures) -> str:
    n, person = one.numbers, one.person
    rows = [
        (
            "error",
            number(n.error_px, 1, "px"),
            f"{number(n.error_percent, 1, '%')} of the body's height in the picture",
        ),
        ("height", _height(n), ""),
        ("mass", number(n.measurements.get("mass", math.nan), 0, "kg"), ""),
        ("distance", number(n.distance_m, 2, "m"), ""),
        ("focal length", number(n.focal_px, 0, "px"), _SOURCES.get(n.focal_source, escape(n.focal_source))),
    ]
    if n.joints_sd_m:
        worst = max(n.joints_sd_m, key=lambda name: n.joints_sd_m[name])
        middle = sorted(n.joints_sd_m.values())[len(n.joints_sd_m) // 2]
        more = f"least sure: {_plain(worst)}, &#177;{number(1000 * n.joints_sd_m[worst], 0, 'mm')}"
        rows.append(("joints", f"&#177;{number(1000 * middle, 0, 'mm')}", more))
    if resting := int(person.result.legs_at_rest.sum()):
        frames = f", in {resting} of {len(person.frames)} frames" if person.fps else ""
        rows.append(("legs", "at rest", f"not visible{frames}"))
    if person.fps:
        gaps = int((~person.seen).sum())
        more = f"{person.frames[0]} to {person.frames[-1]}" + (f", {gaps} filled" if gaps else "")
        rows.append(("frames", str(len(person.frames)), more))
    return "<dl>" + "".join(_row(*row) for row in rows) + "</dl>\n"


def _row(term: str, value: str, more: str = "") -> str:
    return f"<dt>{term}</dt><dd>{value}{f'<small>{more}</small>' if more else ''}</dd>\n"


def _measured(n: Numbers, *, unfold: bool) -> str:
    rows = [_row(_plain(m), number(100 * n.measurements[m], 1, "cm")) for m in _GIRTHS if m in n.measurements]
    unfolded = " open" if unfold else ""
    return f"<details{unfolded}><summary>Measurements</summary><dl>{''.join(rows)}</dl></details>\n" if rows else ""


def _joints(n: Numbers) -> str:
    """Make the list of the joints' standard deviations, with bars relative to the largest."""
    if not n.joints_sd_m:
        return ""
    most = max(n.joints_sd_m.values()) or 1.0
    rows = "".join(
        _row(_plain(name), f'<i style="--w:{100 * sd / most:.0f}"></i>{number(1000 * sd, 0, "mm")}')
        for name, sd in n.joints_sd_m.items()
    )
    return f"<details><summary>Joints: standard deviation about the pelvis</summary><dl>{rows}</dl></details>\n"


def _height(n: Numbers) -> str:
    return number(n.measurements.get("height", math.nan), 2, "m")


def _pill(n: Numbers) -> str:
    return f'<span class="pill{_PILLS.get(n.status, " bad")}">{n.status.replace("_", " ")}</span>'


def _reason(n: Numbers) -> str:
    return f'<small class="why">{escape(n.reason)}</small>\n' if n.reason else ""


def _swatch(one: PersonFigures) -> str:
    red, green, blue = (round(255 * c) for c in one.color)
    return f'<span class="swatch" style="background:rgb({red} {green} {blue})"></span>'


def _plain(name: str) -> str:
    return escape(name.replace("_", " "))
