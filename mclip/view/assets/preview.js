// A small stage beside something else: plays what it is given, again and again; a drag turns, a wheel zooms.

class Preview {
  constructor(canvas, body) {
    this.stage = new Stage(canvas, body);
    this.camera = new Camera();
    this.clock = null;
    this.stale = true;
    this.stage.onrestored = () => (this.stale = true);
    steer(canvas, this.camera, () => (this.stale = true), () => this.reset());
    this.setTheme(systemTheme.matches ? "dark" : "light");
    systemTheme.addEventListener("change", (event) => this.setTheme(event.matches ? "dark" : "light"));
    const loop = (now) => {
      this.tick(now);
      requestAnimationFrame(loop);
    };
    requestAnimationFrame(loop);
  }

  setTheme(name) {
    document.documentElement.dataset.theme = name;
    this.stage.theme = THEMES[name];
    this.stale = true;
  }

  switchTheme() {
    this.setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  }

  /** Play motions side by side, or in one place. */
  show(motions, { apart = true, playing = true } = {}) {
    this.motions = motions;
    this.apart = apart;
    this.clock = new Clock(motions);
    if (playing) this.clock.play();
    this.reset();
  }

  reset() {
    const { camera, motions } = this;
    if (!motions) return;
    camera.yaw = motions[0].heading + SIDE_ANGLE;
    camera.pitch = FIRST_PITCH;
    const [right, , back] = camera.axes();
    arrange(motions, camera.axes(), this.apart ? motions.length : 0);
    this.middle = new Middle(motions);
    this.stage.light = normalize(add(add(scale(back, 0.55), scale(right, -0.6)), [0, 0, 1.35]));
    this.stage.show(motions);
    const { clientWidth, clientHeight } = this.stage.canvas;
    const centre = camera.fit(motions, this.middle, clientWidth / clientHeight, 0.86);
    this.centre = this.middle.at(this.clock.time);
    camera.target = [...this.centre, centre[2]];
    this.stale = true;
  }

  tick(now) {
    const passed = Math.min((now - (this.last ?? now)) / 1000, 0.25);
    this.last = now;
    if (!this.clock) return;
    const before = this.clock.time;
    this.clock.tick(passed);
    if (!this.stage.resize() && this.clock.time === before && !this.stale) return;
    this.stale = false;
    const centre = this.middle.at(this.clock.time);
    this.camera.target = add(this.camera.target, [centre[0] - this.centre[0], centre[1] - this.centre[1], 0]);
    this.centre = centre;
    this.stage.draw(this.clock.time, this.camera);
  }
}

const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** An SVG element with attributes. */
function drawing(kind, attributes, content = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", kind);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.textContent = content;
  return made;
}
