// The moving part of a report: bodies to turn with the mouse. Everything it needs is in the page.

const data = JSON.parse(document.getElementById("bodyfit-data").textContent);

// ---------------------------------------------------------------- unpacking; bodyfit/show/pack.py has the format

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function unpackIntegers({ rows, columns, bytes, data }) {
  const planes = await inflate(data), n = rows * columns, out = new Int32Array(n);
  for (let i = 0; i < n; i++) {
    let zigzag = 0;
    for (let k = 0; k < bytes; k++) zigzag |= planes[k * n + i] << (8 * k);
    const step = (zigzag >>> 1) ^ -(zigzag & 1);
    out[i] = i < columns ? step : out[i - columns] + step;
  }
  return out;
}

async function unpackPoses({ poses, low, step, ...packed }) {
  const integers = await unpackIntegers(packed), n = packed.rows;
  const all = [], sum = new Int32Array(3 * n);
  for (let t = 0; t < poses; t++) {
    const points = new Float32Array(3 * n);
    for (let v = 0; v < n; v++)
      for (let c = 0; c < 3; c++) {
        const i = 3 * v + c;
        sum[i] += integers[v * packed.columns + 3 * t + c];
        points[i] = low[c] + step * sum[i];
      }
    all.push(points);
  }
  return all;
}

const decoder = new TextDecoder();
async function module(name, names = {}) {
  let source = decoder.decode(await inflate(data.modules[name]));
  for (const [from, to] of Object.entries(names)) source = source.replaceAll(from, to);
  return URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
}

async function loadThree() {
  const core = await module("core");
  const three = await module("three", { "./three.core.min.js": core });
  const controls = await module("controls", { "'three'": `'${three}'` });
  return [await import(three), (await import(controls)).OrbitControls];
}

// ---------------------------------------------------------------- drawing

class Body {
  constructor(record, faces, poses) {
    Object.assign(this, record, { poses });
    this.geometry = new THREE.BufferGeometry();
    this.geometry.setIndex(new THREE.BufferAttribute(faces, 1));
    this.geometry.setAttribute("position", new THREE.BufferAttribute(poses[0].slice(), 3));
    this.geometry.computeVertexNormals();
    const boxes = poses.map((points) => new THREE.Box3().setFromArray(points));
    this.centres = boxes.map((box) => box.getCenter(new THREE.Vector3()).setY(0));
    this.box = boxes.reduce((all, box) => all.union(box), new THREE.Box3());
    // What the body takes up about a camera that goes along with it.
    this.around = boxes.reduce((all, box, i) => all.union(box.clone().translate(this.centres[0].clone().sub(this.centres[i]))), new THREE.Box3());
    this.pose = 0;
  }

  show(pose) {
    this.pose = pose;
    this.geometry.attributes.position.array.set(this.poses[pose]);
    this.geometry.attributes.position.needsUpdate = true;
    this.geometry.computeVertexNormals();
    this.geometry.boundingSphere = null;
  }
}

class Stage {
  constructor(element, bodies) {
    this.element = element;
    this.bodies = bodies;
    this.canvas = element.querySelector("canvas");
    this.picture = this.canvas.getContext("2d");
    this.box = bodies.length === 1 ? bodies[0].around.clone() : bodies.reduce((box, body) => box.union(body.box), new THREE.Box3());
    this.at = bodies[0].centres[0].clone();
    this.centre = this.box.getCenter(new THREE.Vector3());
    this.radius = Math.max(this.box.getSize(new THREE.Vector3()).length() / 2, 0.1);
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(28, 1, this.radius / 50, this.radius * 60);
    this.#light();
    this.meshes = bodies.map((body) => this.#mesh(body));
    this.joints = bodies.map((body) => this.#joints(body));
    this.controls = new OrbitControls(this.camera, this.canvas);
    this.controls.target.copy(this.centre);
    this.controls.enablePan = false;
    this.controls.minDistance = this.radius;
    this.controls.maxDistance = this.radius * 12;
    this.controls.addEventListener("change", () => this.dirty());
    this.look(this.element.dataset.view ?? "photo", 0.35);
    this.#listen();
    new ResizeObserver(() => this.dirty()).observe(this.canvas);
    new IntersectionObserver(([entry]) => ((this.visible = entry.isIntersecting), this.dirty())).observe(this.canvas);
  }

  #light() {
    const r = this.radius, sun = new THREE.DirectionalLight(0xfff6ea, 2.0), rim = new THREE.DirectionalLight(0xdfeaff, 0.8);
    this.sun = sun;
    this.rim = rim;
    sun.castShadow = true;
    sun.shadow.mapSize.set(1024, 1024);
    sun.shadow.radius = 6;
    sun.shadow.normalBias = 0.02;
    Object.assign(sun.shadow.camera, { left: -1.6 * r, right: 1.6 * r, top: 1.6 * r, bottom: -1.6 * r, near: r / 10, far: 8 * r });
    const floor = new THREE.Mesh(new THREE.CircleGeometry(6 * r, 64), new THREE.ShadowMaterial({ opacity: 0.22 }));
    floor.rotation.x = -Math.PI / 2;
    floor.position.set(this.centre.x, this.box.min.y, this.centre.z);
    floor.receiveShadow = true;
    this.room = new THREE.Group().add(sun, sun.target, rim, rim.target, floor);
    this.scene.add(new THREE.HemisphereLight(0xffffff, 0xb8afa6, 1.5), this.room);
    sun.target.position.copy(this.centre);
    rim.target.position.copy(this.centre);
    // The light comes from before the body as the picture shows it, from above and the left.
    const before = this.#direction("photo").setY(0).normalize(), left = new THREE.Vector3(-before.z, 0, before.x);
    const place = (light, ahead, aside, up) =>
      light.position.copy(this.centre).addScaledVector(before, ahead * r).addScaledVector(left, aside * r).add(new THREE.Vector3(0, up * r, 0));
    place(sun, 1.8, 1.4, 3.2);
    place(rim, -2.5, -1.6, 1.5);
  }

  #mesh(body) {
    const material = new THREE.MeshStandardMaterial({ color: new THREE.Color().setRGB(...body.color, THREE.SRGBColorSpace), roughness: 0.62, metalness: 0 });
    const mesh = new THREE.Mesh(body.geometry, material);
    mesh.castShadow = mesh.receiveShadow = true;
    this.scene.add(mesh);
    return mesh;
  }

  // Joints as balls as large as they are unsure, bones between them; seen through the body.
  #joints(body) {
    const group = new THREE.Group(), plain = { depthTest: false, transparent: true };
    const ball = new THREE.SphereGeometry(1, 20, 14);
    const unsure = new THREE.MeshBasicMaterial({ color: 0xd9480f, opacity: 0.35, ...plain });
    const point = new THREE.MeshBasicMaterial({ color: 0x7c2d12, ...plain });
    group.balls = body.parents.map((_, j) => [[unsure, Math.max(body.radii[j] ?? 0, 1e-4)], [point, 0.009]].map(([material, radius]) => {
      const mesh = new THREE.Mesh(ball, material);
      mesh.scale.setScalar(radius);
      group.add(mesh);
      return mesh;
    }));
    group.bones = new THREE.LineSegments(new THREE.BufferGeometry(), new THREE.LineBasicMaterial({ color: 0x7c2d12, ...plain }));
    group.add(group.bones);
    group.visible = false;
    this.scene.add(group);
    this.#placeJoints(group, body);
    return group;
  }

  #placeJoints(group, body) {
    const points = body.joints[body.pose];
    group.balls.forEach((balls, j) => balls.forEach((ball) => ball.position.set(...points[j])));
    const ends = body.parents.flatMap((parent, j) => (parent < 0 ? [] : [...points[parent], ...points[j]]));
    group.bones.geometry.setAttribute("position", new THREE.Float32BufferAttribute(ends, 3));
  }

  #direction(view) {
    const ahead = new THREE.Vector3(...this.bodies[0].eye).sub(this.centre).normalize();
    if (view === "side") return new THREE.Vector3(-ahead.z, 0.08, ahead.x).normalize();
    if (view === "back") return new THREE.Vector3(-ahead.x, 0.12, -ahead.z).normalize();
    if (view === "top") return new THREE.Vector3(ahead.x * 0.02, 1, ahead.z * 0.02).normalize();
    return ahead;
  }

  look(view, turn = 0) {
    const direction = this.#direction(view).applyAxisAngle(new THREE.Vector3(0, 1, 0), turn);
    const { clientWidth: w, clientHeight: h } = this.canvas, { min, max } = this.box;
    // As near as every corner of the box allows.
    const right = new THREE.Vector3(0, 1, 0).cross(direction).normalize(), up = direction.clone().cross(right);
    const tangent = 0.86 * Math.tan((0.5 * this.camera.fov * Math.PI) / 180), aspect = Math.max(w, 1) / Math.max(h, 1);
    let distance = this.radius;
    for (const x of [min.x, max.x]) for (const y of [min.y, max.y]) for (const z of [min.z, max.z]) {
      const corner = new THREE.Vector3(x, y, z).sub(this.centre);
      const reach = Math.max(Math.abs(corner.dot(up)), Math.abs(corner.dot(right)) / aspect) / tangent;
      distance = Math.max(distance, reach + 0.5 * corner.dot(direction)); // few bodies fill the corners of their box
    }
    this.camera.position.copy(this.centre).addScaledVector(direction, distance);
    this.controls.update();
    this.dirty();
  }

  #listen() {
    for (const button of this.element.querySelectorAll("button[data-look]"))
      button.addEventListener("click", () => this.look(button.dataset.look));
    const joints = this.element.querySelector("button[data-joints]");
    joints?.addEventListener("click", () => {
      const on = joints.getAttribute("aria-pressed") !== "true";
      joints.setAttribute("aria-pressed", String(on));
      this.joints.forEach((group) => (group.visible = on));
      this.meshes.forEach((mesh) => Object.assign(mesh.material, { transparent: on, opacity: on ? 0.45 : 1, needsUpdate: true }));
      this.dirty();
    });
    this.#listenToTime(this.element.querySelector("input[data-pose]"), this.element.querySelector("button[data-play]"));
    this.canvas.addEventListener("keydown", (event) => {
      const turns = { ArrowLeft: -0.15, ArrowRight: 0.15 };
      if (!(event.key in turns)) return;
      event.preventDefault();
      this.camera.position.sub(this.centre).applyAxisAngle(new THREE.Vector3(0, 1, 0), turns[event.key]).add(this.centre);
      this.controls.update();
    });
  }

  #listenToTime(time, play) {
    const frames = [...new Set(this.bodies.flatMap((body) => body.frames))].sort((a, b) => a - b);
    if (!time || frames.length === 0) return;
    time.max = frames.length - 1;
    const show = () => {
      time.nextElementSibling.value = `frame ${frames[time.value]}`;
      this.bodies.forEach((body, i) => {
        const pose = body.frames.indexOf(frames[time.value]);
        this.meshes[i].visible = pose >= 0; // the person is not in this frame
        if (pose < 0) return;
        body.show(pose);
        this.#placeJoints(this.joints[i], body);
      });
      stages.forEach((stage) => (stage.follow(), stage.dirty())); // others may show the same body
    };
    time.addEventListener("input", show);
    play.addEventListener("click", () => {
      const on = play.getAttribute("aria-pressed") !== "true";
      play.setAttribute("aria-pressed", String(on));
      clearInterval(this.clock);
      if (on) this.clock = setInterval(() => ((time.value = (Number(time.value) + 1) % frames.length), show()), 120);
    });
    show();
  }

  // Of one body alone the camera goes along, over the ground.
  follow() {
    if (this.bodies.length > 1) return;
    const step = this.bodies[0].centres[this.bodies[0].pose].clone().sub(this.at);
    this.at.add(step);
    for (const point of [this.camera.position, this.controls.target, this.centre, this.room.position, this.box.min, this.box.max]) point.add(step);
    this.controls.update();
  }

  dirty() {
    if (this.waiting || this.visible === false) return;
    this.waiting = true;
    requestAnimationFrame(() => ((this.waiting = false), this.draw()));
  }

  // One renderer for all stages: browsers allow about sixteen WebGL contexts a page.
  draw() {
    const ratio = Math.min(devicePixelRatio, 2);
    const w = Math.round(this.canvas.clientWidth * ratio), h = Math.round(this.canvas.clientHeight * ratio);
    if (w === 0 || h === 0) return;
    if (this.canvas.width !== w || this.canvas.height !== h) Object.assign(this.canvas, { width: w, height: h });
    const shared = renderer.domElement;
    if (shared.width < w || shared.height < h) renderer.setSize(Math.max(shared.width, w), Math.max(shared.height, h), false);
    renderer.setViewport(0, 0, w, h);
    renderer.setScissor(0, 0, w, h);
    this.camera.aspect = w / h;
    this.camera.updateProjectionMatrix();
    renderer.render(this.scene, this.camera);
    this.picture.clearRect(0, 0, w, h);
    this.picture.drawImage(shared, 0, shared.height - h, w, h, 0, 0, w, h);
    this.element.classList.add("drawn");
    this.drawn = (this.drawn ?? 0) + 1;
  }
}

// ---------------------------------------------------------------- the page

for (const slider of document.querySelectorAll(".compare input"))
  slider.addEventListener("input", () => slider.parentElement.style.setProperty("--x", `${slider.value}%`));

let THREE, OrbitControls, renderer;
const stages = [];

async function start() {
  [THREE, OrbitControls] = await loadThree();
  renderer = new THREE.WebGLRenderer({ antialias: true, alpha: true });
  renderer.setScissorTest(true);
  renderer.shadowMap.enabled = true;
  renderer.shadowMap.type = THREE.PCFShadowMap;
  const meshes = {};
  for (const [name, packed] of Object.entries(data.meshes)) meshes[name] = Uint32Array.from(await unpackIntegers(packed));
  const bodies = [];
  for (const record of data.bodies) bodies.push(new Body(record, meshes[record.mesh], await unpackPoses(record.points)));
  for (const element of document.querySelectorAll("[data-bodies]"))
    stages.push(new Stage(element, element.dataset.bodies.split(" ").map((i) => bodies[i])));
  window.bodyfit = { bodies, stages }; // for the curious, and for tests
}

start().catch((fault) => {
  document.documentElement.classList.add("still");
  document.getElementById("no-3d").textContent = `The bodies cannot be drawn in 3D here: ${fault.message ?? fault}`;
});
