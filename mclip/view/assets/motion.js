// The page of one or more motions: what is seen, and what buttons, keys and gestures do.

const TOGGLES = [
  ["ground", "Ground", "g"],
  ["shadow", "Shadow", "s"],
  ["path", "Path", "t"],
  ["skeleton", "Skeleton", "b"],
  ["axes", "Joint axes", "a"],
  ["names", "Names", "n"],
  ["follow", "Camera follows", "f"],
  ["loop", "Play again", "l"],
];
const KEYS = [
  ["Space", "play, pause"],
  ["← →", "one frame; with Shift, ten"],
  ["Home End", "first, last frame"],
  ["↑ ↓", "faster, slower"],
  ["drag", "turn; with Shift, right button or two fingers, move"],
  ["wheel, pinch", "zoom; also + and −"],
  ["R, double click", "the first view again"],
  ["O", "side by side or overlaid"],
  ["1 … 9", "show or hide a motion"],
  ...TOGGLES.map(([, label, key]) => [key.toUpperCase(), label.toLowerCase()]),
  ["D", "dark or light"],
  ["I", "where it comes from"],
  ["H", "hide everything but the picture"],
];

class MotionPage {
  constructor(stage, motions) {
    this.stage = stage;
    this.motions = motions;
    this.clock = new Clock(motions);
    this.camera = new Camera();
    this.apart = motions.length > 1;
    this.follow = true;
    this.names = true;
    this.toggles = TOGGLES.filter(([name]) => name !== "names" || motions.length > 1);
    this.last = 0;
    this.stale = true;
    stage.onrestored = () => this.changed();
    this.reset();
  }

  /** Something looks different now: draw soon. */
  changed() {
    this.stale = true;
  }

  /** Stand the motions where they belong and put the camera where all of them are seen. */
  reset() {
    const { camera, motions, clock } = this;
    camera.yaw = motions[0].heading + SIDE_ANGLE;
    // People in a row are looked at from the front.
    if (this.apart && motions.length > 1) camera.yaw = motions[0].heading + SIDE_ANGLE / 2;
    const { clientWidth, clientHeight } = this.stage.canvas;
    const columns = this.apart ? columnsFor(motions.length, clientWidth / clientHeight) : 0;
    // Who stands behind others is seen from higher up.
    camera.pitch = columns && columns < motions.length ? HIGH_PITCH : FIRST_PITCH;
    const axes = camera.axes();
    arrange(motions, axes, columns);
    this.middle = new Middle(motions);
    const [right, , back] = axes;
    // The lamp is above the viewer's left shoulder, and stays there.
    this.stage.light = normalize(add(add(scale(back, 0.55), scale(right, -0.6)), [0, 0, 1.35]));
    this.stage.show(motions);
    this.fit();
    this.centre = this.middle.at(clock.time);
    const over = this.follow ? this.centre : this.whole;
    camera.target = [over[0], over[1], this.whole[2]];
    this.changed();
  }

  /** As far away as the controls let everyone be seen. */
  fit() {
    const { camera } = this;
    const { clientWidth: width, clientHeight: height } = this.stage.canvas;
    const below = element("bar").offsetHeight + 30, above = Math.min(element("title").offsetHeight + 50, height * 0.14);
    const bare = document.body.classList.contains("bare");
    const free = bare ? 0.9 : Math.max(height - below - above, height * 0.4) / height;
    camera.lift = bare ? 0 : (below - above) / height;
    this.whole = camera.fit(this.motions, this.follow ? this.middle : null, width / height, free);
  }

  /** Called for each picture of the screen. */
  tick(now) {
    const { clock, stage, camera } = this;
    const passed = Math.min((now - this.last) / 1000, 0.25); // a page in the background does not jump
    this.last = now;
    const before = clock.time, played = clock.playing;
    clock.tick(passed);
    if (stage.resize() || clock.time !== before || clock.playing !== played) this.changed();
    if (!this.stale) return;
    this.stale = false;
    if (this.follow) {
      const centre = this.middle.at(clock.time);
      camera.target = add(camera.target, [centre[0] - this.centre[0], centre[1] - this.centre[1], 0]);
      this.centre = centre;
    }
    stage.draw(clock.time, camera);
    this.describe();
  }

  /** Bring the controls up to date. */
  describe() {
    const { clock } = this;
    const scrub = element("scrub"), frame = clock.frame, last = clock.lead.frames - 1;
    scrub.value = frame;
    scrub.style.setProperty("--part", last ? frame / last : 0);
    scrub.setAttribute("aria-valuetext", `frame ${frame} of ${last}, ${clock.time.toFixed(2)} seconds`);
    element("time").textContent = `${Math.min(clock.time, clock.seconds).toFixed(2)} s`;
    element("frame").textContent = `${frame} / ${last}`;
    element("play").setAttribute("aria-label", clock.playing ? "Pause" : "Play");
    document.body.classList.toggle("playing", clock.playing);
    this.placeTags();
  }

  /** Put the names above the heads. */
  placeTags() {
    const { canvas } = this.stage;
    const view = this.camera.matrix(canvas.width / canvas.height);
    const shown = this.names && this.motions.length > 1 && this.apart;
    [...element("tags").children].forEach((tag, i) => {
      const motion = this.motions[i];
      const [x, y, z] = add(motion.joint(15), [0, 0, 0.3]);
      const w = view[3] * x + view[7] * y + view[11] * z + view[15];
      const across = (view[0] * x + view[4] * y + view[8] * z + view[12]) / w;
      const up = (view[1] * x + view[5] * y + view[9] * z + view[13]) / w;
      tag.hidden = !shown || !motion.visible || w <= 0;
      const margin = tag.offsetWidth / 2 + 6;
      const left = clamp((0.5 + across / 2) * canvas.clientWidth, margin, canvas.clientWidth - margin);
      const top = (0.5 - up / 2) * canvas.clientHeight;
      tag.style.transform = `translate(-50%, -100%) translate(${left.toFixed(1)}px, ${top.toFixed(1)}px)`;
    });
  }

  toggle(name) {
    const { stage, clock } = this;
    if (name === "follow") {
      this.follow = !this.follow;
      this.reset();
    } else if (name === "loop") clock.loop = !clock.loop;
    else if (name === "names") this.names = !this.names;
    else stage.options[name] = !stage.options[name];
    this.showToggles();
    this.changed();
  }

  isOn(name) {
    if (name === "follow" || name === "names") return this[name];
    return name === "loop" ? this.clock.loop : this.stage.options[name];
  }

  showToggles() {
    for (const [name] of this.toggles) element(`toggle-${name}`).setAttribute("aria-checked", String(this.isOn(name)));
  }

  setApart(apart) {
    this.apart = apart;
    element("apart").setAttribute("aria-pressed", String(apart));
    this.reset();
  }

  setVisible(i, visible) {
    if (!this.motions[i]) return;
    this.motions[i].visible = visible;
    element("legend").children[i].firstChild.setAttribute("aria-pressed", String(visible));
    this.changed();
  }

  setTheme(name) {
    document.documentElement.dataset.theme = name;
    this.stage.theme = THEMES[name];
    this.changed();
  }

  playOrPause() {
    if (this.clock.playing) this.clock.playing = false;
    else this.clock.play();
    this.changed();
  }

  seek(frame) {
    this.clock.seek(frame);
    this.changed();
  }

  faster(steps) {
    const at = SPEEDS.indexOf(this.clock.speed) + steps;
    this.setSpeed(SPEEDS[clamp(at, 0, SPEEDS.length - 1)]);
  }

  setSpeed(speed) {
    this.clock.speed = speed;
    element("speed").value = String(speed);
  }

  // ---- what is made once ----

  build() {
    const { motions, clock } = this;
    const several = motions.length > 1;
    element("title").textContent = document.title;
    const frames = clock.lead.frames;
    const length = `${(frames / clock.lead.fps).toFixed(1)} s · ${frames} frame${frames > 1 ? "s" : ""} · ${+clock.lead.fps.toFixed(2)} fps`;
    element("facts").textContent = length;
    element("apart").hidden = !several;
    element("scrub").max = clock.lead.frames - 1;
    document.body.classList.toggle("still", !clock.seconds);
    for (const id of ["scrub", "play", "back", "forth", "speed"]) element(id).disabled = !clock.seconds;
    for (const speed of SPEEDS) element("speed").append(new Option(`${speed}×`, speed, speed === 1, speed === 1));
    for (const [name, label, key] of this.toggles) element("options").append(this.toggleButton(name, label, key));
    if (several) motions.forEach((motion, i) => this.addName(motion, i));
    for (const motion of motions) element("provenance").append(...this.provenance(motion, several));
    for (const [keys, what] of KEYS) element("keys").append(text("dt", keys), text("dd", what));
    this.showToggles();
    this.connect();
  }

  toggleButton(name, label, key) {
    const button = text("button", label);
    button.id = `toggle-${name}`;
    button.type = "button";
    button.setAttribute("role", "switch");
    button.append(text("kbd", key.toUpperCase()));
    button.addEventListener("click", () => this.toggle(name));
    return button;
  }

  addName(motion, i) {
    const tag = text("span", motion.name), item = document.createElement("li"), button = text("button", motion.name);
    const colour = COLOURS[i % COLOURS.length];
    tag.style.setProperty("--colour", colour);
    button.style.setProperty("--colour", colour);
    button.type = "button";
    button.title = "Show or hide";
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => this.setVisible(i, !motion.visible));
    item.append(button);
    element("legend").append(item);
    element("legend").hidden = false;
    element("tags").append(tag);
  }

  provenance(motion, several) {
    const list = document.createElement("dl");
    for (const [name, value] of motion.about) list.append(text("dt", name), text("dd", value));
    return several ? [text("h3", motion.name), list] : [list];
  }

  connect() {
    const on = (id, kind, action) => element(id).addEventListener(kind, action);
    on("play", "click", () => this.playOrPause());
    on("back", "click", () => this.seek(this.clock.frame - 1));
    on("forth", "click", () => this.seek(this.clock.frame + 1));
    on("scrub", "input", (event) => this.seek(Number(event.target.value)));
    on("speed", "change", (event) => this.setSpeed(Number(event.target.value)));
    on("apart", "click", () => this.setApart(!this.apart));
    on("theme", "click", () => this.switchTheme());
    on("about-button", "click", () => element("about").showModal());
    on("help-button", "click", () => element("help").showModal());
    on("options-button", "click", () => this.showOptions(element("options").hidden));
    for (const id of ["about", "help"]) {
      // A click beside the dialog closes it.
      on(id, "click", (event) => event.target === element(id) && element(id).close());
    }
    on("stage", "pointerdown", () => this.showOptions(false));
    document.addEventListener("keydown", (event) => this.key(event));
    systemTheme.addEventListener("change", (event) => this.setTheme(event.matches ? "dark" : "light"));
    addEventListener("resize", () => {
      // The picture keeps its view; only one that nobody moved is fitted anew.
      if (!this.moved) this.reset();
    });
    steer(
      this.stage.canvas,
      this.camera,
      () => {
        this.moved = true;
        this.changed();
      },
      () => this.home(),
    );
  }

  /** The first view again. */
  home() {
    this.moved = false;
    this.reset();
  }

  showOptions(shown) {
    element("options").hidden = !shown;
    element("options-button").setAttribute("aria-expanded", String(shown));
  }

  switchTheme() {
    this.setTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const step = event.shiftKey ? 10 : 1, last = this.clock.lead.frames - 1;
    const name = event.key.toLowerCase();
    const actions = {
      " ": () => this.playOrPause(),
      arrowleft: () => this.seek(this.clock.frame - step),
      arrowright: () => this.seek(this.clock.frame + step),
      home: () => this.seek(0),
      end: () => this.seek(last),
      arrowup: () => this.faster(1),
      arrowdown: () => this.faster(-1),
      "+": () => this.camera.zoom(0.87),
      "=": () => this.camera.zoom(0.87),
      "-": () => this.camera.zoom(1.15),
      r: () => this.home(),
      o: () => this.motions.length > 1 && this.setApart(!this.apart),
      d: () => this.switchTheme(),
      i: () => element("about").showModal(),
      h: () => document.body.classList.toggle("bare"),
      "?": () => element("help").showModal(),
      escape: () => {
        this.showOptions(false);
        document.body.classList.remove("bare");
      },
    };
    const toggle = this.toggles.find(([, , key]) => key === name);
    // Buttons and lists have their own use for Space and the arrows.
    const busy = event.target.closest("button, select") && [" ", "arrowup", "arrowdown"].includes(name);
    if (busy) return;
    if (toggle) this.toggle(toggle[0]);
    else if (actions[name]) actions[name]();
    else if (/^[1-9]$/.test(name)) this.setVisible(Number(name) - 1, !this.motions[Number(name) - 1]?.visible);
    else return;
    event.preventDefault();
    this.changed();
  }
}

async function start() {
  const { data, body } = await readPage();
  const frames = await Promise.all(data.motions.map(readFrames));
  const motions = data.motions.map((record, i) => new Motion(record, frames[i], body));
  const page = new MotionPage(new Stage(element("stage"), body), motions);
  page.build();
  page.setTheme(systemTheme.matches ? "dark" : "light");
  page.reset(); // once more, now that the controls have their size
  // Who wants less movement starts it.
  if (!matchMedia("(prefers-reduced-motion: reduce)").matches) page.clock.play();

  /**
   * For scripts and tests.
   *   mclip.frame            the frame shown, from 0
   *   mclip.seek(frame)      show it, and stop there
   *   mclip.play()           play; mclip.pause() stops
   *   mclip.setView({eye, target})  look from one point of the file's world (metres, Z up) to another, upright, with
   *                          30 degrees from bottom to top; the first motion's world, where there are several
   *   mclip.show({ground, shadow, path, skeleton, axes, follow, names, loop})  switch what is shown: true or false each
   *   mclip.drawn            resolves when the screen shows what was asked for
   */
  window.mclip = {
    get frame() {
      return page.clock.frame;
    },
    get playing() {
      return page.clock.playing;
    },
    seek: (frame) => page.seek(frame),
    play: () => (page.clock.play(), page.changed()),
    pause: () => ((page.clock.playing = false), page.changed()),
    setView({ eye, target }) {
      if (page.follow) page.toggle("follow");
      page.moved = true;
      const { origin, slot } = motions[0];
      const [from, to] = [eye, target].map((place) => add(subtract(place, origin), slot));
      const back = subtract(from, to);
      const { camera } = page;
      camera.distance = Math.hypot(...back);
      camera.yaw = Math.atan2(back[1], back[0]);
      camera.pitch = Math.asin(back[2] / camera.distance);
      camera.target = to;
      camera.lift = 0;
      page.changed();
    },
    show(wanted) {
      for (const [name, on] of Object.entries(wanted)) if (page.isOn(name) !== on) page.toggle(name);
    },
    get drawn() {
      return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    },
  };
  const loop = (now) => {
    page.tick(now);
    requestAnimationFrame(loop);
  };
  requestAnimationFrame((now) => {
    page.last = now;
    loop(now);
    document.body.classList.add("ready");
  });
}

start().catch(fail);
