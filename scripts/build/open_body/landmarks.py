"""The 68 face landmarks of iBUG (Sagonas et al., ICCV Workshops 2013) on the mesh: 51 fixed ones and the jaw's contour.

The fixed ones were picked by eye on a front view of the neutral body, on its left side and the middle.
"""

import numpy as np

from scripts.build.open_body.source import Source
from scripts.build.open_body.surface import mirrored_points, ray_hits
from scripts.build.open_body.tree import EYEBALLS

# Left, up from the head's origin (the middle between the eyeballs), millimetres, by the number of the landmark;
# middle and left only.
PICKED_MM = {
    22: (10.0, 14.5), 23: (18.5, 18.5), 24: (28.0, 20.0), 25: (38.0, 18.0), 26: (47.0, 12.5),
    27: (0.0, -1.0), 28: (0.0, -13.0), 29: (0.0, -25.5), 30: (0.0, -38.5),
    33: (0.0, -48.6), 34: (6.5, -46.0), 35: (14.5, -44.6),
    42: (15.9, -4.8), 43: (23.3, 1.1), 44: (34.5, 1.9), 45: (42.9, -1.9), 46: (35.5, -5.8), 47: (24.5, -5.4),
    51: (0.0, -61.6), 52: (5.5, -60.9), 53: (14.5, -63.0), 54: (23.4, -70.6), 55: (14.5, -79.5), 56: (6.5, -81.6),
    57: (0.0, -82.2), 62: (0.0, -70.3), 63: (9.0, -69.6), 64: (20.6, -70.1), 65: (9.0, -71.2), 66: (0.0, -71.5),
}  # fmt: skip
# The landmark of the other side.
MIRRORED = {
    17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46,
    48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65,
}  # fmt: skip
# The face ends behind this line in a side view (forward, up from the middle between the eyeballs, millimetres): from
# below the chin along the edge of the jaw to its angle, the front of the ear and the temple.
EDGE_MM = ((30, -140), (14, -113), (-20, -103), (-52, -86), (-60, -55), (-60, -25), (-56, 30))
YAWS_DEG = np.array([*range(40), *range(-1, -40, -1)])
CONTOUR_POINTS = 17
# The contour starts and ends at the height of the outer corners of the eyes.
CONTOUR_START_MM = -6.0


def face_landmarks(source: Source, template: np.ndarray) -> dict[str, np.ndarray]:
    """The arrays lmk_* and dynamic_lmk_* of the file, on the neutral (V, 3) body."""
    eyes = template[source.base_index >= EYEBALLS].mean(0)
    faces, coordinates = _picked(source, template, eyes)
    contour_faces, contour_coordinates = _contours(source, template, eyes)
    return {
        "lmk_faces_idx": faces, "lmk_bary_coords": coordinates,
        "dynamic_lmk_faces_idx": contour_faces, "dynamic_lmk_bary_coords": contour_coordinates,
    }  # fmt: skip


def _picked(source: Source, template: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(51,) faces and (51, 3) barycentric coordinates of landmarks 17 to 67."""
    skin = np.flatnonzero((source.base_index[source.faces] < EYEBALLS).all(1))
    found = {}
    for number, (left, up) in PICKED_MM.items():
        # A micrometre aside in the middle, where faces meet.
        start = eyes + np.array([1e-3 * left + (1e-6 if left == 0 else 0), 1e-3 * up, 0.2])
        _, hit, coordinates = ray_hits(template, source.faces[skin], start, np.array([0.0, 0.0, -1.0]))
        found[number] = skin[hit[0]], coordinates[0]
    for number, twin in MIRRORED.items():
        face, coordinates = mirrored_points(source, np.array([found[twin][0]]), found[twin][1][None])
        found[number] = face[0], coordinates[0]
    numbers = range(17, 68)
    return np.array([found[n][0] for n in numbers]), np.stack([found[n][1] for n in numbers])


def _contours(source: Source, template: np.ndarray, eyes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(79, 17) faces and (79, 17, 3) coordinates of the outline of the face, seen from the front.

    A row is for a head turned by so many degrees to its right (rows 0 to 39) or its left (the others).
    """
    faces, coordinates, points = _face_samples(source, template - eyes)
    out_faces = np.zeros((len(YAWS_DEG), CONTOUR_POINTS), dtype=np.int64)
    out_coordinates = np.zeros((len(YAWS_DEG), CONTOUR_POINTS, 3))
    for row in range(40):
        chosen = _outline(points, np.radians(YAWS_DEG[row]))
        out_faces[row], out_coordinates[row] = faces[chosen], coordinates[chosen]
    # A head turned left is the mirror image of one turned right, and one turned nowhere that of itself.
    twin_faces, twin_coordinates = mirrored_points(source, out_faces[:40, ::-1], out_coordinates[:40, ::-1])
    out_faces[40:], out_coordinates[40:] = twin_faces[1:], twin_coordinates[1:]
    half = CONTOUR_POINTS // 2
    out_faces[0, :half], out_coordinates[0, :half] = twin_faces[0, :half], twin_coordinates[0, :half]
    return out_faces, out_coordinates


def _face_samples(source: Source, template: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Faces (P,), coordinates (P, 3) and points (P, 3) all over the front of the head, a millimetre or two apart."""
    skin = (source.base_index[source.faces] < EYEBALLS).all(1)
    middle = template[source.faces].mean(1)
    near = np.flatnonzero(skin & (np.linalg.norm(middle - [0, -0.05, -0.02], axis=1) < 0.15))
    steps = 8
    grid = np.array([(i, j, steps - i - j) for i in range(steps + 1) for j in range(steps + 1 - i)]) / steps
    grid = 0.98 * grid + 0.02 / 3  # off the edges, so that each point has one face
    points = np.einsum("gk,fkc->fgc", grid, template[source.faces[near]]).reshape(-1, 3)
    faces, coordinates = np.repeat(near, len(grid)), np.tile(grid, (len(near), 1))
    edge = 1e-3 * np.array(EDGE_MM, dtype=float)
    limit = np.interp(points[:, 1], edge[:, 1], edge[:, 0])
    inside = (points[:, 2] > limit) & (points[:, 1] > edge[0, 1])
    return faces[inside], coordinates[inside], points[inside]


def _outline(points: np.ndarray, yaw: float) -> np.ndarray:
    """(17,) numbers of the points on the outline of (P, 3) points about the origin, turned to the right by `yaw`.

    The outline is what is farthest in each direction from a centre between the mouth and the eyes; the points on it
    are evenly apart on each side of the chin.
    """
    seen = np.stack([np.cos(yaw) * points[:, 0] - np.sin(yaw) * points[:, 2], points[:, 1]], -1)
    chin = seen[np.argmin(points[:, 1] + 10 * np.abs(points[:, 0])), 0]
    centre = np.array([0.5 * chin, 0.6e-3 * CONTOUR_START_MM - 0.035])
    ways = np.radians(np.linspace(-215, 35, 501))
    angle = np.arctan2(*(seen - centre).T[::-1])
    angle = np.where(angle > np.radians(90), angle - 2 * np.pi, angle)
    radius = np.linalg.norm(seen - centre, axis=1)
    farthest = np.zeros(len(ways), dtype=np.int64)
    for w, way in enumerate(ways):
        close = np.flatnonzero(np.abs(angle - way) < np.radians(0.7))
        farthest[w] = close[radius[close].argmax()]
    line = seen[farthest]
    bottom = np.argmin(np.abs(line[:, 0] - chin) + 10 * (line[:, 1] > -0.06))
    out = np.zeros(CONTOUR_POINTS, dtype=np.int64)
    half = CONTOUR_POINTS // 2
    right, left = np.arange(bottom, -1, -1), np.arange(bottom, len(line))
    for part, target in ((right, slice(half, None, -1)), (left, slice(half, None))):
        low = part[: np.flatnonzero(line[part, 1] <= 1e-3 * CONTOUR_START_MM)[-1] + 1]
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(line[low], axis=0), axis=1))])
        out[target] = farthest[low[np.abs(length - np.linspace(0, length[-1], half + 1)[:, None]).argmin(1)]]
    return out
