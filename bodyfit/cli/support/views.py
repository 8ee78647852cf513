"""What `bodyfit eval views` does."""

from __future__ import annotations

from pathlib import Path

from bodyfit.cli.support import common
from bodyfit.errors import OptionError

__all__ = ["compare_folders"]


def compare_folders(drawn: Path, truth: Path | None, as_json: bool) -> int:
    """Compare the drawn pictures of a folder with the true ones and print the scores. Raises `OptionError`."""
    if truth is None:
        raise OptionError("views need two folders: bodyfit eval views DRAWN TRUTH")
    from bodyfit.evaluate.views import compare_views

    scores, alone = compare_views(drawn, truth)
    means = {name: sum(getattr(s, name) for s in scores) / len(scores) for name in ("psnr_db", "ssim", "perceptual")}
    if as_json:
        pictures = [{"name": s.name, "psnr_db": s.psnr_db, "ssim": s.ssim, "perceptual": s.perceptual} for s in scores]
        common.say_json(
            {"drawn": drawn, "truth": truth, "pictures": pictures, "means": means, "without_partner": alone}
        )
    else:
        rows = [(s.name, s.psnr_db, s.ssim, s.perceptual) for s in scores] + [("mean", *means.values())]
        wide = max(len(str(row[0])) for row in rows)
        for name, psnr, ssim, perceptual in rows:
            common.say(f"{name:{wide}}  {psnr:6.2f} dB  SSIM {ssim:.3f}  perceptual {perceptual:.4f}")
    if alone:
        common.error(f"{len(alone)} pictures have no partner: {', '.join(alone[:5])}", label="note")
    return common.SOME_FAILED if alone else common.OK
