"""A reader of binary glTF for tests, from its specification alone: arrays, the poses of nodes, skins, animations."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

_KINDS = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_COLUMNS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Gltf:
    """A file with one mesh, skinned or not, and at most one animation."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        magic, version, length = struct.unpack_from("<4sII", data)
        assert (magic, version, length) == (b"glTF", 2, len(data))
        size, kind = struct.unpack_from("<I4s", data, 12)
        assert (kind, size % 4) == (b"JSON", 0)
        self.json: dict[str, Any] = json.loads(data[20 : 20 + size])
        size_2, kind = struct.unpack_from("<I4s", data, 20 + size)
        assert (kind, 28 + size + size_2) == (b"BIN\0", len(data))
        self._buffer = data[28 + size :]
        self.nodes = self.json["nodes"]
        (self.mesh_node,) = (i for i, node in enumerate(self.nodes) if "mesh" in node)
        self.skin = self.json.get("skins", [{"joints": []}])[0]
        self.primitive = self.json["meshes"][0]["primitives"][0]
        self.joint_names = [self.nodes[j]["name"] for j in self.skin["joints"]]

    def array(self, accessor: int) -> np.ndarray:
        """An accessor's rows; a sparse one starts from zeros."""
        a = self.json["accessors"][accessor]
        columns = _COLUMNS[a["type"]]
        if "sparse" not in a:
            rows = self._read(a["bufferView"], a["componentType"], a["count"] * columns).reshape(-1, columns)
        else:
            sparse, rows = a["sparse"], np.zeros((a["count"], columns), _KINDS[a["componentType"]])
            index = self._read(sparse["indices"]["bufferView"], sparse["indices"]["componentType"], sparse["count"])
            assert (np.diff(index.astype(int)) > 0).all()
            values = self._read(sparse["values"]["bufferView"], a["componentType"], sparse["count"] * columns)
            rows[index] = values.reshape(-1, columns)
        if "min" in a:
            np.testing.assert_array_equal(rows.min(0), np.float32(a["min"]))
            np.testing.assert_array_equal(rows.max(0), np.float32(a["max"]))
        return rows.reshape(-1, 4, 4).transpose(0, 2, 1) if a["type"] == "MAT4" else rows

    def _read(self, view: int, component: int, count: int) -> np.ndarray:
        v, dtype = self.json["bufferViews"][view], np.dtype(_KINDS[component])
        assert v["byteOffset"] % dtype.itemsize == 0
        assert v["byteLength"] == count * dtype.itemsize
        return np.frombuffer(self._buffer, dtype, count, v["byteOffset"])

    def times(self) -> np.ndarray:
        """Of the animation's frames, seconds."""
        return self.array(self.json["animations"][0]["samplers"][0]["input"])[:, 0]

    def posed(self, frame: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and joints of a frame of the animation, or of the pose that the nodes have."""
        nodes = [{key: node[key] for key in ("translation", "rotation") if key in node} for node in self.nodes]
        morphs = np.array(self.json["meshes"][0].get("weights", []))
        for animation in self.json.get("animations", []):
            for channel in animation["channels"]:
                values = self.array(animation["samplers"][channel["sampler"]]["output"])
                target = channel["target"]
                if target["path"] == "weights":
                    morphs = values.reshape(-1, len(morphs))[frame]
                else:
                    nodes[target["node"]][target["path"]] = values[frame]
        world = self._world(nodes)
        vertices = self.array(self.primitive["attributes"]["POSITION"]).astype(np.float64)
        for weight, target in zip(morphs, self.primitive.get("targets", []), strict=True):
            vertices += weight * self.array(target["POSITION"])
        inverse = self.array(self.skin["inverseBindMatrices"])
        joints = np.stack([world[j] for j in self.skin["joints"]])
        matrices, blend, i = joints @ inverse, 0.0, 0
        while f"JOINTS_{i}" in self.primitive["attributes"]:
            index = self.array(self.primitive["attributes"][f"JOINTS_{i}"])
            weights = self.array(self.primitive["attributes"][f"WEIGHTS_{i}"])
            blend = blend + np.einsum("vk,vkij->vij", weights, matrices[index])
            i += 1
        return np.einsum("vij,vj->vi", blend, np.c_[vertices, np.ones(len(vertices))])[:, :3], joints[:, :3, 3]

    def _world(self, nodes: list[dict[str, Any]]) -> dict[int, np.ndarray]:
        """The transform of every node that the scene holds."""
        world: dict[int, np.ndarray] = {}
        stack = [(root, np.eye(4)) for root in self.json["scenes"][0]["nodes"]]
        while stack:
            i, above = stack.pop()
            local = np.eye(4)
            local[:3, :3] = Rotation.from_quat(nodes[i].get("rotation", [0, 0, 0, 1])).as_matrix()
            local[:3, 3] = nodes[i].get("translation", [0, 0, 0])
            world[i] = above @ local
            stack += [(child, world[i]) for child in self.nodes[i].get("children", [])]
        return world
