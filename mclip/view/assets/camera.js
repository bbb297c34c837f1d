// A camera that goes around its target, and how it is steered.

// Tangent of half of 30 degrees: the field of view of mclip's own pictures (mclip/render/camera.py).
const HALF_SIDE = Math.tan(Math.PI / 12);
const MIN_DISTANCE = 0.4, MAX_DISTANCE = 400;
// The camera stays above the floor and just short of straight down.
const MIN_PITCH = 0.02, MAX_PITCH = 1.55;
const TURN_PER_PIXEL = 0.006;
// Metres from a joint to what is seen: the crown of the head is the farthest.
const SKIN = 0.17;
// From the side, and from a little above, as in mclip's pictures (mclip/view/stage.py).
const SIDE_ANGLE = (35 * Math.PI) / 180, FIRST_PITCH = 0.21, HIGH_PITCH = 0.5;

class Camera {
  constructor() {
    this.target = [0, 0, 1];
    this.distance = 5;
    this.yaw = 0;
    this.pitch = 0.2;
    this.lift = 0; // how far up the target is from the picture's middle, as a part of half its height
  }

  axes() {
    return lookAxes(this.yaw, this.pitch);
  }

  eye() {
    return add(this.target, scale(this.axes()[2], this.distance));
  }

  /** World to picture, for a picture `aspect` times as wide as it is high. */
  matrix(aspect) {
    const projection = perspective(HALF_SIDE * aspect, HALF_SIDE, this.distance * 0.02, this.distance * 4 + 60);
    projection[9] = -this.lift;
    return multiply(projection, viewMatrix(this.eye(), this.axes()));
  }

  turn(across, down) {
    this.yaw -= across * TURN_PER_PIXEL;
    this.pitch = clamp(this.pitch + down * TURN_PER_PIXEL, MIN_PITCH, MAX_PITCH);
  }

  /** Move the target by pixels of a picture `height` pixels high. */
  pan(across, down, height) {
    const metre = (2 * HALF_SIDE * this.distance) / height;
    const [right, up] = this.axes();
    this.target = add(this.target, add(scale(right, -across * metre), scale(up, down * metre)));
  }

  /**
   * As far away as all joints need at all times, around `middle`, or around the whole where that is null, in a picture
   * `aspect` times as wide as high, of whose height a part `free` can be used. Returns the centre; x and y are those of
   * the whole.
   */
  fit(motions, middle, aspect, free) {
    const places = [];
    for (const time of sampleTimes(motions)) {
      const [x, y] = middle ? middle.at(time) : [0, 0];
      for (const motion of motions) {
        motion.pose(time);
        for (let j = 0; j < JOINTS; j++) places.push(subtract(motion.joint(j), [x, y, 0]));
      }
    }
    const extent = (axis) =>
      places.reduce(([low, high], p) => [Math.min(low, p[axis]), Math.max(high, p[axis])], [Infinity, -Infinity]);
    const [x, y, z] = [0, 1, 2].map(extent);
    const whole = [(x[0] + x[1]) / 2, (y[0] + y[1]) / 2, (Math.min(z[0], 0) + z[1] + SKIN) / 2];
    const centre = middle ? [0, 0, whole[2]] : whole;
    const [right, up, back] = this.axes();
    this.distance = MIN_DISTANCE * 4;
    for (const place of places) {
      const offset = subtract(place, centre);
      const across = (Math.abs(dot(offset, right)) + SKIN) / (HALF_SIDE * aspect * 0.94);
      const upward = (Math.abs(dot(offset, up)) + SKIN) / (HALF_SIDE * free);
      this.distance = Math.max(this.distance, Math.max(across, upward) + dot(offset, back));
    }
    this.distance = Math.min(this.distance, MAX_DISTANCE);
    return whole;
  }

  zoom(factor) {
    this.distance = clamp(this.distance * factor, MIN_DISTANCE, MAX_DISTANCE);
  }
}

/** Drag turns; right button, Shift or two fingers pan; wheel or two fingers apart zoom; two clicks call `reset`. */
function steer(canvas, camera, changed, reset) {
  gestures(canvas, {
    drag: (across, down, event, fingers) => {
      if (fingers > 1 || event.shiftKey || event.buttons & 6) camera.pan(across, down, canvas.clientHeight);
      else camera.turn(across, down);
      changed();
    },
    zoom: (factor) => {
      camera.zoom(1 / factor);
      changed();
    },
    reset,
  });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
}
