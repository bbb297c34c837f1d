// A motion through time: where its joints are, and what they do to the skin.

const JOINTS = 24;
const LEFT_HIP = 1, RIGHT_HIP = 2, LEFT_SHOULDER = 16, RIGHT_SHOULDER = 17;
// A lowest point this far from height zero means the file's floor is not at zero: it is put under the feet instead.
const OTHER_FLOOR = 0.5;
// Frames and vertices that are looked at to find the floor, and frames to find the room a motion needs.
const FLOOR_FRAMES = 24, FLOOR_STRIDE = 7, ROOM_FRAMES = 200;

/**
 * One motion on the stage. Places are those of the file, moved so that the root starts above the origin and the floor
 * is at height zero, plus `slot`, where the motion stands beside others.
 */
class Motion {
  constructor(record, frames, body) {
    this.name = record.name;
    this.caption = record.caption;
    this.about = record.about;
    this.frames = record.frames;
    this.fps = record.fps;
    this.seconds = (record.frames - 1) / record.fps; // from the first frame to the last
    this.visible = true;
    this.body = body;
    this.quaternions = frames.quaternions;
    this.travelled = frames.travelled;
    this.slot = [0, 0, 0];
    this.turn = new Float32Array(JOINTS * 9); // row-major, joint to world
    this.place = new Float32Array(JOINTS * 3);
    this.bones = new Float32Array(JOINTS * 12); // three rows of four: rest position to world
    // The pelvis lies at the translation plus its rest joint, which is not turned.
    this.base = [-body.rest[0][0], -body.rest[0][1], record.start[2]];
    this.pose(0);
    this.heading = this.facing();
    this.floor = this.findFloor();
    this.base[2] -= this.floor;
    /** What was subtracted from the file's world. */
    this.origin = [record.start[0] + body.rest[0][0], record.start[1] + body.rest[0][1], this.floor];
  }

  /** The number of the frame at a time, whole or between two. */
  frameAt(seconds) {
    return clamp(seconds * this.fps, 0, this.frames - 1);
  }

  /** Put the joints where they are at a time; between frames, rotations are blended. */
  pose(seconds) {
    const exact = this.frameAt(seconds);
    // What differs from a frame by rounding only is that frame.
    const nearest = Math.round(exact);
    const at = Math.abs(exact - nearest) < 1e-4 ? nearest : exact;
    const low = Math.floor(at), high = Math.min(low + 1, this.frames - 1), part = at - low;
    const { turn, place, bones, body } = this;
    const local = new Float32Array(9);
    for (let j = 0; j < JOINTS; j++) {
      this.rotation(low, high, part, j, local);
      const parent = body.parents[j];
      if (parent < 0) {
        turn.set(local, 0);
        for (let axis = 0; axis < 3; axis++) {
          const from = this.travelled[3 * low + axis], to = this.travelled[3 * high + axis];
          place[axis] = this.base[axis] + this.slot[axis] + body.rest[0][axis] + from + (to - from) * part;
        }
      } else {
        const bone = subtract(body.rest[j], body.rest[parent]);
        for (let row = 0; row < 3; row++) {
          const p = 9 * parent + 3 * row;
          place[3 * j + row] = place[3 * parent + row] + turn[p] * bone[0] + turn[p + 1] * bone[1] + turn[p + 2] * bone[2];
          for (let column = 0; column < 3; column++) {
            turn[9 * j + 3 * row + column] =
              turn[p] * local[column] + turn[p + 1] * local[3 + column] + turn[p + 2] * local[6 + column];
          }
        }
      }
      const rest = body.rest[j];
      for (let row = 0; row < 3; row++) {
        const t = 9 * j + 3 * row, b = 12 * j + 4 * row;
        bones[b] = turn[t];
        bones[b + 1] = turn[t + 1];
        bones[b + 2] = turn[t + 2];
        bones[b + 3] = place[3 * j + row] - (turn[t] * rest[0] + turn[t + 1] * rest[1] + turn[t + 2] * rest[2]);
      }
    }
  }

  /** The local rotation of joint j between two frames, as a row-major matrix. */
  rotation(low, high, part, j, out) {
    const q = this.quaternions, a = 4 * (JOINTS * low + j), b = 4 * (JOINTS * high + j);
    let [w, x, y, z] = [q[a], q[a + 1], q[a + 2], q[a + 3]];
    if (part > 0) {
      const sign = w * q[b] + x * q[b + 1] + y * q[b + 2] + z * q[b + 3] < 0 ? -part : part;
      w += sign * q[b] - part * w;
      x += sign * q[b + 1] - part * x;
      y += sign * q[b + 2] - part * y;
      z += sign * q[b + 3] - part * z;
    }
    const s = 2 / (w * w + x * x + y * y + z * z);
    out[0] = 1 - s * (y * y + z * z);
    out[1] = s * (x * y - w * z);
    out[2] = s * (x * z + w * y);
    out[3] = s * (x * y + w * z);
    out[4] = 1 - s * (x * x + z * z);
    out[5] = s * (y * z - w * x);
    out[6] = s * (x * z - w * y);
    out[7] = s * (y * z + w * x);
    out[8] = 1 - s * (x * x + y * y);
  }

  joint(j) {
    return [this.place[3 * j], this.place[3 * j + 1], this.place[3 * j + 2]];
  }

  /** The direction the body faces now, as the angle from +x towards +y. */
  facing() {
    const across = add(
      subtract(this.joint(LEFT_HIP), this.joint(RIGHT_HIP)),
      subtract(this.joint(LEFT_SHOULDER), this.joint(RIGHT_SHOULDER)),
    );
    return Math.atan2(-across[0], across[1]);
  }

  /** Where the root is over the ground in frame f. */
  ground(f) {
    return [this.slot[0] + this.travelled[3 * f], this.slot[1] + this.travelled[3 * f + 1]];
  }

  findFloor() {
    const { positions, joints, weights } = this.body;
    let lowest = Infinity;
    const count = Math.min(this.frames, FLOOR_FRAMES);
    for (let i = 0; i < count; i++) {
      this.pose(count > 1 ? (this.seconds * i) / (count - 1) : 0);
      for (let v = 0; v < positions.length / 3; v += FLOOR_STRIDE) {
        let height = 0;
        for (let k = 0; k < 4; k++) {
          const b = 12 * joints[4 * v + k] + 8;
          const x = this.bones[b] * positions[3 * v] + this.bones[b + 1] * positions[3 * v + 1];
          height += (weights[4 * v + k] / 255) * (x + this.bones[b + 2] * positions[3 * v + 2] + this.bones[b + 3]);
        }
        lowest = Math.min(lowest, height);
      }
    }
    return Math.abs(lowest) < OTHER_FLOOR ? 0 : lowest;
  }
}

/** The time from the first frame of a group of motions to its last. */
const longest = (motions) => Math.max(...motions.map((motion) => motion.seconds));

/** Evenly spaced times over all of the motions. */
function sampleTimes(motions) {
  const seconds = longest(motions);
  const count = Math.min(Math.max(...motions.map((motion) => motion.frames)), ROOM_FRAMES);
  return Array.from({ length: count }, (_, i) => (count > 1 ? (seconds * i) / (count - 1) : 0));
}

/** How many of `count` motions stand side by side in a picture `aspect` times as wide as it is high. */
function columnsFor(count, aspect) {
  if (count <= 3 || (count <= 8 && aspect >= 1)) return count;
  return Math.ceil(Math.sqrt(count * 2 * Math.min(aspect, 1)));
}

/**
 * Stand motions side by side, from left to right for a viewer whose axes are given, so close that they do not touch
 * while they are played in step; or, in no columns, all in one place.
 */
function arrange(motions, [right, , back], columns) {
  for (const motion of motions) motion.slot = [0, 0, 0];
  if (!columns || motions.length < 2) return;
  const times = sampleTimes(motions);
  const across = motions.map((motion) => times.map((time) => span(motion, time, right)));
  const deep = motions.map((motion) => times.map((time) => span(motion, time, back)));
  // In one row everyone stands as close as the neighbour allows, in several on a grid with the largest distances.
  const gap = (spans, i, k) => Math.max(0.8, 0.2 + Math.max(...times.map((_, t) => spans[i][t][1] - spans[k][t][0])));
  const gaps = motions.slice(1).map((_, i) => gap(across, i, i + 1));
  const widest = Math.max(...gaps);
  const deepest = columns < motions.length ? Math.max(...motions.slice(1).map((_, i) => gap(deep, i, i + 1))) : 0;
  let x = 0;
  motions.forEach((motion, i) => {
    const column = i % columns;
    x = column === 0 ? 0 : x + (columns < motions.length ? widest : gaps[i - 1]);
    motion.slot = add(scale(right, x), scale([back[0], back[1], 0], -deepest * Math.floor(i / columns)));
  });
  const middle = scale(add(motions[0].slot, motions[motions.length - 1].slot), 0.5);
  for (const motion of motions) motion.slot = [...subtract(motion.slot, middle).slice(0, 2), 0];
}

/** How far the joints reach along an axis at a time: [least, most], with a hand's breadth of skin. */
function span(motion, time, axis) {
  motion.pose(time);
  let least = Infinity, most = -Infinity;
  for (let j = 0; j < JOINTS; j++) {
    const at = dot(motion.joint(j), axis);
    least = Math.min(least, at);
    most = Math.max(most, at);
  }
  return [least - 0.1, most + 0.1];
}

/** The way the middle of all motions takes over the ground, without the sway of single steps. */
class Middle {
  constructor(motions) {
    const times = sampleTimes(motions);
    this.seconds = longest(motions);
    const raw = times.map((time) => {
      const sum = [0, 0];
      for (const motion of motions) {
        const [x, y] = motion.ground(Math.round(motion.frameAt(time)));
        sum[0] += x / motions.length;
        sum[1] += y / motions.length;
      }
      return sum;
    });
    // A mean over half a second to either side.
    const reach = Math.round((0.5 / (this.seconds || 1)) * (raw.length - 1));
    this.path = raw.map((_, i) => {
      const part = raw.slice(Math.max(i - reach, 0), i + reach + 1);
      return [0, 1].map((axis) => part.reduce((sum, point) => sum + point[axis], 0) / part.length);
    });
  }

  at(time) {
    const exact = this.seconds ? clamp(time / this.seconds, 0, 1) * (this.path.length - 1) : 0;
    const low = Math.floor(exact), high = Math.min(low + 1, this.path.length - 1);
    return [0, 1].map((axis) => this.path[low][axis] + (exact - low) * (this.path[high][axis] - this.path[low][axis]));
  }
}
