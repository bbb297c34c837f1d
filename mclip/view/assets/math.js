// Vectors are arrays of three numbers. Matrices are 4 x 4, column-major, as WebGL takes them. The world is Z up, metres.

const add = (a, b) => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
const subtract = (a, b) => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
const scale = (a, s) => [a[0] * s, a[1] * s, a[2] * s];
const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const normalize = (a) => scale(a, 1 / (Math.hypot(...a) || 1));
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/** a x b of 4 x 4 matrices. */
function multiply(a, b) {
  const out = new Float32Array(16);
  for (let column = 0; column < 4; column++) {
    for (let row = 0; row < 4; row++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[k * 4 + row] * b[column * 4 + k];
      out[column * 4 + row] = sum;
    }
  }
  return out;
}

/** A perspective projection from the tangents of half the angles across and up. */
function perspective(across, up, near, far) {
  const depth = 1 / (near - far);
  return new Float32Array([
    1 / across, 0, 0, 0,
    0, 1 / up, 0, 0,
    0, 0, (far + near) * depth, -1,
    0, 0, 2 * far * near * depth, 0,
  ]);
}

/** A projection without perspective of the cube [-radius, radius]^3, in which the viewer looks along -z. */
function orthographic(radius) {
  const s = 1 / radius;
  return new Float32Array([s, 0, 0, 0, 0, s, 0, 0, 0, 0, -s, 0, 0, 0, 0, 1]);
}

/** World to viewer: axes are right, up and towards the viewer, in the world. */
function viewMatrix(eye, [right, up, back]) {
  return new Float32Array([
    right[0], up[0], back[0], 0,
    right[1], up[1], back[1], 0,
    right[2], up[2], back[2], 0,
    -dot(right, eye), -dot(up, eye), -dot(back, eye), 1,
  ]);
}

/** The axes of a viewer who stands at angle `yaw` around the subject and `pitch` above its horizon, radians. */
function lookAxes(yaw, pitch) {
  const right = [-Math.sin(yaw), Math.cos(yaw), 0];
  const back = [Math.cos(pitch) * Math.cos(yaw), Math.cos(pitch) * Math.sin(yaw), Math.sin(pitch)];
  return [right, cross(back, right), back];
}
