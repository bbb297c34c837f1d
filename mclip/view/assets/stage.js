// The stage: WebGL2 draws bodies, their skeletons, the floor, shadows and paths.

const linear = (hex) => [1, 3, 5].map((at) => (parseInt(hex.slice(at, at + 2), 16) / 255) ** 2.2);
const plain = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255);

// One colour for each motion, told apart by people who do not see all of them.
const COLOURS = ["#93afd0", "#dd9278", "#86b998", "#d9b86c", "#ab97cb", "#6fb3ba", "#cd8ba3", "#a9b2bd"];
const AXIS_COLOURS = ["#e5484d", "#46a758", "#3e7bfa"].map(linear);
const THEMES = {
  light: {
    background: "#eceff3", ground: "#f7f8fa", line: "#aeb7c4", bone: "#30394a",
    sky: [0.33, 0.37, 0.44], floor: [0.2, 0.185, 0.17], shade: 0.6,
  },
  dark: {
    background: "#12151b", ground: "#1d222b", line: "#465163", bone: "#e8edf5",
    sky: [0.22, 0.26, 0.33], floor: [0.08, 0.08, 0.09], shade: 0.8,
  },
};
const SHADOW_SIZE = 2048;
// Metres around the joints that the lamp's picture has to hold.
const SKIN_DEPTH = 0.35;
const BONE_RADIUS = 0.011, JOINT_RADIUS = 0.02, AXIS_LENGTH = 0.11, AXIS_RADIUS = 0.0045;
// How much of the skin is left when what is inside is shown.
const GLASS = 0.34;

class Stage {
  constructor(canvas, body) {
    const gl = canvas.getContext("webgl2", { antialias: true, alpha: false, powerPreference: "high-performance" });
    if (!gl) throw new Error("This browser has no WebGL 2, which draws the body. Try a current one.");
    this.gl = gl;
    this.canvas = canvas;
    this.body = body;
    this.motions = [];
    this.options = { ground: true, shadow: true, skeleton: false, axes: false, path: true };
    this.theme = THEMES.light;
    this.light = normalize([0.4, 0.4, 1]);
    this.prepare();
    canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    canvas.addEventListener("webglcontextrestored", () => {
      this.prepare();
      this.show(this.motions);
      this.onrestored?.();
    });
  }

  /** Make everything that lives on the graphics card. */
  prepare() {
    const { gl, body } = this;
    this.programs = {
      depth: program(gl, SKINNED, DEPTH_ONLY),
      body: program(gl, SKINNED, BODY),
      ground: program(gl, GROUND_VERTEX, GROUND),
      path: program(gl, PATH_VERTEX, PATH),
      rod: program(gl, ROD_VERTEX, ROD),
    };
    this.mesh = gl.createVertexArray();
    gl.bindVertexArray(this.mesh);
    attribute(gl, 0, body.positions, 3);
    attribute(gl, 1, body.normals, 3);
    attribute(gl, 2, body.joints, 4);
    attribute(gl, 3, body.weights, 4);
    indices(gl, body.faces);

    this.floor = gl.createVertexArray();
    gl.bindVertexArray(this.floor);
    attribute(gl, 0, new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]), 2);

    const { points, triangles } = sphere(10, 4);
    this.rods = gl.createVertexArray();
    gl.bindVertexArray(this.rods);
    attribute(gl, 0, points, 3);
    indices(gl, triangles);
    this.rodCorners = triangles.length;
    this.rodBuffer = gl.createBuffer();
    gl.bindBuffer(gl.ARRAY_BUFFER, this.rodBuffer);
    [3, 3, 3, 2].reduce((at, size, i) => {
      gl.enableVertexAttribArray(1 + i);
      gl.vertexAttribPointer(1 + i, size, gl.FLOAT, false, 44, at);
      gl.vertexAttribDivisor(1 + i, 1);
      return at + 4 * size;
    }, 0);
    gl.bindVertexArray(null);

    this.shadows = gl.createTexture();
    gl.bindTexture(gl.TEXTURE_2D, this.shadows);
    gl.texStorage2D(gl.TEXTURE_2D, 1, gl.DEPTH_COMPONENT24, SHADOW_SIZE, SHADOW_SIZE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_COMPARE_MODE, gl.COMPARE_REF_TO_TEXTURE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.LINEAR);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_S, gl.CLAMP_TO_EDGE);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_WRAP_T, gl.CLAMP_TO_EDGE);
    this.shadowFrame = gl.createFramebuffer();
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.shadowFrame);
    gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.DEPTH_ATTACHMENT, gl.TEXTURE_2D, this.shadows, 0);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA); // colours come multiplied by their opacity
  }

  /** Choose the motions to draw. */
  show(motions) {
    const { gl } = this;
    for (const { path } of this.drawn ?? []) gl.deleteVertexArray(path.array);
    this.motions = motions;
    this.drawn = motions.map((motion, i) => ({
      motion,
      colour: linear(COLOURS[i % COLOURS.length]),
      path: pathRibbon(gl, motion),
    }));
  }

  /** As many pixels as the screen has, within reason. Returns whether that changed. */
  resize() {
    const { canvas } = this;
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const width = Math.max(Math.round(canvas.clientWidth * ratio), 1);
    const height = Math.max(Math.round(canvas.clientHeight * ratio), 1);
    if (canvas.width === width && canvas.height === height) return false;
    canvas.width = width;
    canvas.height = height;
    return true;
  }

  /** Draw all visible motions at a time, seen by a camera. */
  draw(time, camera) {
    const { gl, options, theme } = this;
    if (gl.isContextLost()) return;
    const drawn = this.drawn.filter(({ motion }) => motion.visible);
    for (const { motion } of drawn) motion.pose(time);
    const lamp = this.drawShadows(drawn);
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.clearColor(...plain(theme.background), 1);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    const view = camera.matrix(this.canvas.width / this.canvas.height);
    const inside = options.skeleton || options.axes;

    gl.enable(gl.BLEND);
    this.drawGround(view, camera, lamp);
    if (options.path) this.drawPaths(drawn, time, view, camera);
    gl.enable(gl.DEPTH_TEST);
    gl.disable(gl.BLEND);
    if (inside) this.drawRods(drawn, view);
    gl.enable(gl.CULL_FACE);
    if (inside) {
      // The nearest skin first, so that the far side does not shine through the near one.
      gl.colorMask(false, false, false, false);
      this.drawBodies(this.programs.depth, drawn, view, () => {});
      gl.colorMask(true, true, true, true);
      gl.enable(gl.BLEND);
      gl.depthFunc(gl.LEQUAL);
    }
    const { set } = this.programs.body;
    this.drawBodies(this.programs.body, drawn, view, ({ colour }) => set({ u_colour: colour }), {
      ...this.lampValues(lamp),
      u_eye: camera.eye(),
      u_light: this.light,
      u_sky: theme.sky,
      u_floor: theme.floor,
      u_shade: options.shadow ? 0.85 : 0,
      u_opacity: inside ? GLASS : 1,
    });
    gl.depthFunc(gl.LESS);
    gl.disable(gl.BLEND);
    gl.disable(gl.CULL_FACE);
    gl.disable(gl.DEPTH_TEST);
  }

  /** Draw what the lamp sees into the shadow texture, and return the matrix from the world to that picture. */
  drawShadows(drawn) {
    const { gl } = this;
    let low = [Infinity, Infinity, 0], high = [-Infinity, -Infinity, 0];
    for (const { motion } of drawn) {
      for (let j = 0; j < JOINTS; j++) {
        const place = motion.joint(j);
        low = low.map((value, axis) => Math.min(value, place[axis]));
        high = high.map((value, axis) => Math.max(value, place[axis]));
      }
    }
    if (!drawn.length) low = high = [0, 0, 0];
    const centre = scale(add(low, high), 0.5);
    const radius = Math.hypot(...subtract(high, low)) / 2 + SKIN_DEPTH;
    const axes = lookAxes(Math.atan2(this.light[1], this.light[0]), Math.asin(this.light[2]));
    const lamp = { matrix: multiply(orthographic(radius), viewMatrix(centre, axes)), radius };
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.shadowFrame);
    gl.viewport(0, 0, SHADOW_SIZE, SHADOW_SIZE);
    gl.clear(gl.DEPTH_BUFFER_BIT);
    if (this.options.shadow) {
      gl.enable(gl.DEPTH_TEST);
      gl.enable(gl.POLYGON_OFFSET_FILL);
      gl.polygonOffset(2, 4);
      this.drawBodies(this.programs.depth, drawn, lamp.matrix, () => {});
      gl.disable(gl.POLYGON_OFFSET_FILL);
      gl.disable(gl.DEPTH_TEST);
    }
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    return lamp;
  }

  lampValues({ matrix, radius }) {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.shadows);
    // Two centimetres of half-shadow, but at least what hides the texture's steps.
    return { u_shadows: 0, u_lamp: matrix, u_softness: Math.max(0.01 / radius, 1.5 / SHADOW_SIZE) };
  }

  drawBodies({ use, set }, drawn, matrix, each, values = {}) {
    const { gl } = this;
    use();
    set({ u_camera: matrix, ...values });
    gl.bindVertexArray(this.mesh);
    for (const item of drawn) {
      each(item);
      set({ u_bones: item.motion.bones });
      gl.drawElements(gl.TRIANGLES, this.body.faces.length, gl.UNSIGNED_SHORT, 0);
    }
  }

  drawGround(view, camera, lamp) {
    const { gl, options, theme } = this;
    const { use, set } = this.programs.ground;
    use();
    set({
      u_camera: view,
      ...this.lampValues(lamp),
      u_focus: camera.target.slice(0, 2),
      u_reach: Math.max(4, camera.distance * 1.7),
      u_colour: plain(theme.ground),
      u_line: plain(theme.line),
      u_ground: options.ground ? 1 : 0,
      u_shade: options.shadow ? theme.shade : 0,
    });
    gl.bindVertexArray(this.floor);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }

  drawPaths(drawn, time, view, camera) {
    const { gl } = this;
    const { use, set } = this.programs.path;
    use();
    // As wide as about six pixels of a page a thousand high, but never as wide as a foot.
    set({ u_camera: view, u_width: Math.min(camera.distance * 0.0034, 0.03) });
    for (const { motion, colour, path } of drawn) {
      const shown = colour.map((value) => value ** (1 / 2.2) * 0.86);
      set({ u_colour: shown, u_slot: motion.slot.slice(0, 2), u_now: motion.frameAt(time) });
      gl.bindVertexArray(path.array);
      gl.drawArrays(gl.TRIANGLE_STRIP, 0, path.count);
    }
  }

  drawRods(drawn, view) {
    const { gl, options } = this;
    const bone = linear(this.theme.bone);
    const rows = [];
    for (const { motion, colour } of drawn) {
      for (let j = 0; j < JOINTS; j++) {
        const place = motion.joint(j), parent = this.body.parents[j];
        if (options.skeleton) {
          rows.push(...place, ...place, ...colour, JOINT_RADIUS, JOINT_RADIUS);
          if (parent >= 0) rows.push(...motion.joint(parent), ...place, ...bone, BONE_RADIUS * 1.5, BONE_RADIUS * 0.7);
        }
        if (!options.axes) continue;
        for (let axis = 0; axis < 3; axis++) {
          const way = [0, 3, 6].map((row) => motion.turn[9 * j + row + axis] * AXIS_LENGTH);
          rows.push(...place, ...add(place, way), ...AXIS_COLOURS[axis], AXIS_RADIUS, AXIS_RADIUS);
        }
      }
    }
    const { use, set } = this.programs.rod;
    use();
    set({ u_camera: view, u_light: this.light });
    gl.bindVertexArray(this.rods);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.rodBuffer);
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(rows), gl.DYNAMIC_DRAW);
    gl.drawElementsInstanced(gl.TRIANGLES, this.rodCorners, gl.UNSIGNED_SHORT, 0, rows.length / 11);
  }
}

/** A compiled program: `use` it, then `set` uniforms by name. Names the program does not have are passed over. */
function program(gl, vertex, fragment) {
  const made = gl.createProgram();
  for (const [kind, source] of [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(made, shader);
    gl.deleteShader(shader);
  }
  gl.linkProgram(made);
  if (!gl.getProgramParameter(made, gl.LINK_STATUS) && !gl.isContextLost()) {
    const logs = gl.getAttachedShaders(made).map((shader) => gl.getShaderInfoLog(shader));
    throw new Error(`The graphics card refused a program: ${[gl.getProgramInfoLog(made), ...logs].join(" ")}`);
  }
  const places = new Map();
  const set = (values) => {
    for (const [name, value] of Object.entries(values)) {
      if (!places.has(name)) places.set(name, gl.getUniformLocation(made, name));
      const place = places.get(name);
      if (place === null) continue;
      if (name === "u_shadows") gl.uniform1i(place, value);
      else if (name === "u_bones") gl.uniform4fv(place, value);
      else if (typeof value === "number") gl.uniform1f(place, value);
      else if (value.length === 2) gl.uniform2fv(place, value);
      else if (value.length === 3) gl.uniform3fv(place, value);
      else gl.uniformMatrix4fv(place, false, value);
    }
  };
  return { use: () => gl.useProgram(made), set };
}

/** Put values into a new buffer and bind it to an attribute; weights, the only bytes that are read as numbers, too. */
function attribute(gl, at, values, size) {
  gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
  gl.enableVertexAttribArray(at);
  if (values instanceof Float32Array) gl.vertexAttribPointer(at, size, gl.FLOAT, false, 0, 0);
  else if (at === 2) gl.vertexAttribIPointer(at, size, gl.UNSIGNED_BYTE, 0, 0);
  else gl.vertexAttribPointer(at, size, gl.UNSIGNED_BYTE, true, 0, 0);
}

function indices(gl, values) {
  gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
  gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, values, gl.STATIC_DRAW);
}

/** A unit sphere with its equator twice, just below and just above z = 0, so that it can be pulled into a rod. */
function sphere(around, half) {
  const points = [], triangles = [];
  for (let ring = 0; ring < 2 * half + 2; ring++) {
    const upper = ring > half;
    const angle = ((upper ? ring - half - 1 : ring - half) / half) * (Math.PI / 2);
    const z = upper ? Math.max(Math.sin(angle), 1e-4) : Math.min(Math.sin(angle), -1e-4);
    for (let i = 0; i < around; i++) {
      const turn = (2 * Math.PI * i) / around;
      points.push(Math.cos(angle) * Math.cos(turn), Math.cos(angle) * Math.sin(turn), z);
      if (ring === 2 * half + 1) continue;
      const a = ring * around + i, b = ring * around + ((i + 1) % around);
      triangles.push(a, b, a + around, b, b + around, a + around);
    }
  }
  return { points: new Float32Array(points), triangles: new Uint16Array(triangles) };
}

/** The way of a root over the floor as a strip of triangles: two corners a frame. */
function pathRibbon(gl, motion) {
  const { frames, travelled } = motion;
  const places = new Float32Array(frames * 4), sides = new Float32Array(frames * 4), times = new Float32Array(frames * 2);
  let side = [0, 0];
  for (let f = 0; f < frames; f++) {
    const before = 3 * Math.max(f - 1, 0), after = 3 * Math.min(f + 1, frames - 1);
    const way = [travelled[after] - travelled[before], travelled[after + 1] - travelled[before + 1]];
    const length = Math.hypot(...way);
    // Who stands still keeps the direction of the last step.
    if (length > 1e-4) side = [-way[1] / length, way[0] / length];
    for (const [corner, sign] of [[0, 1], [1, -1]]) {
      places.set([travelled[3 * f], travelled[3 * f + 1]], 4 * f + 2 * corner);
      sides.set([sign * side[0], sign * side[1]], 4 * f + 2 * corner);
      times[2 * f + corner] = f;
    }
  }
  const array = gl.createVertexArray();
  gl.bindVertexArray(array);
  attribute(gl, 0, places, 2);
  attribute(gl, 1, sides, 2);
  attribute(gl, 2, times, 1);
  gl.bindVertexArray(null);
  return { array, count: frames * 2 };
}
