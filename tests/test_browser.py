"""The harness itself: three.js draws by WebGL in a headless Chromium, and the page's word and picture come back."""

from __future__ import annotations

import numpy as np
import pytest
from browser import import_map, served

PAGE = """<!doctype html><title>cube</title><body style="margin:0">%s<script type="module">
import * as THREE from 'three';
import { GLTFLoader } from 'three/addons/loaders/GLTFLoader.js';
import { OrbitControls } from 'three/addons/controls/OrbitControls.js';
const renderer = new THREE.WebGLRenderer({ preserveDrawingBuffer: true });
renderer.setSize(320, 240);
document.body.append(renderer.domElement);
const scene = new THREE.Scene();
scene.add(new THREE.Mesh(new THREE.BoxGeometry(1, 1, 1), new THREE.MeshBasicMaterial({ color: 0xff0000 })));
const camera = new THREE.PerspectiveCamera(50, 320 / 240, 0.1, 10);
camera.position.z = 3;
renderer.render(scene, camera);
window.result = { revision: THREE.REVISION, loader: typeof GLTFLoader, controls: typeof OrbitControls };
</script>"""


def test_three_draws_a_cube_where_it_is(browser, tmp_path):
    (tmp_path / "cube.html").write_text(PAGE % import_map())
    with served(tmp_path) as url, browser.open(url + "cube.html", size=(320, 240)) as page:
        assert page.wait_for("window.result") == {"revision": "185", "loader": "function", "controls": "function"}
        picture = page.screenshot()
        assert page.requests[0] == url + "cube.html"
        assert f"{url}web/three.core.min.js" in page.requests
    assert picture.shape == (240, 320, 3)
    red = (picture.astype(int) - (255, 0, 0) == 0).all(-1)
    # The front face, 2.5 m away, is 1 / (2 * 2.5 * tan 25 deg) of the height: 103 pixels square, amid the picture.
    rows, columns = np.flatnonzero(red.any(1)), np.flatnonzero(red.any(0))
    for found, middle in ((rows, 120), (columns, 160)):
        assert len(found) == pytest.approx(103, abs=2)
        assert found.mean() == pytest.approx(middle - 0.5, abs=1)
    assert (picture[~red] == 0).all(-1).mean() > 0.97  # the rest is the empty scene, the edge aside


def test_what_goes_wrong_in_a_page_is_told(browser, tmp_path):
    (tmp_path / "page.html").write_text("<script>fetch('missing.json'); throw new Error('of all things')</script>")
    with served(tmp_path) as url, browser.open(url + "page.html") as page:
        page.until(lambda: len(page.errors) == 2, "both errors")
        assert "of all things" in " ".join(page.errors)
        assert "missing.json" in " ".join(page.errors)
        with pytest.raises(AssertionError, match="of all things"):
            page.wait_for("window.never")
        with pytest.raises(RuntimeError, match="unheard"):
            page.evaluate("unheard.of")
