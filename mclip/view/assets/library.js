// The map of a library: a dot for each motion, coloured by the group it belongs to. Who points at a dot sees it move.

const DOT_RADIUS = 6.5;
// Pixels from the pointer within which a dot counts as meant.
const REACH = 28;
// Pixels around the dots.
const MARGIN = 34;
// Closer, the four digits of a dot's place would show.
const MAX_ZOOM = 40;
// What a key zooms by, and the part of what is in sight that it moves by.
const KEY_ZOOM = 1.4, KEY_STEP = 0.15;

/** What is in sight of the map: a `zoom`th of it each way, from (left, top). Places are parts of a whole, from 0 to 1. */
class Sight {
  constructor() {
    this.reset();
  }

  reset() {
    [this.zoom, this.left, this.top] = [1, 0, 0];
  }

  /** Where a place of the map is in what is in sight. */
  at([x, y]) {
    return [(x - this.left) * this.zoom, (y - this.top) * this.zoom];
  }

  /** Come closer by a factor; what is seen at (x, y) stays there, if the map's edges let it. */
  approach(factor, x, y) {
    const before = this.zoom;
    this.zoom = clamp(before * factor, 1, MAX_ZOOM);
    this.moveTo(this.left + x / before - x / this.zoom, this.top + y / before - y / this.zoom);
  }

  /** Drag what is seen along. */
  drag(across, down) {
    this.moveTo(this.left - across / this.zoom, this.top - down / this.zoom);
  }

  centre([x, y]) {
    this.moveTo(x - 0.5 / this.zoom, y - 0.5 / this.zoom);
  }

  /** The map's edges stay outside. */
  moveTo(left, top) {
    [this.left, this.top] = [left, top].map((start) => clamp(start, 0, 1 - 1 / this.zoom));
  }
}

class LibraryPage {
  constructor(data, body) {
    this.records = data.motions;
    this.body = body;
    this.preview = new Preview(element("stage"), body);
    this.groups = data.groups;
    this.hidden = new Set();
    this.sight = new Sight();
    this.words = "";
    this.chosen = -1;
    this.asked = 0;
    element("title").textContent = document.title;
    element("facts").textContent = data.facts;
    this.build();
    this.place();
    this.choose(0);
  }

  build() {
    const map = element("map");
    this.dots = this.records.map((record, i) => {
      const dot = drawing("circle", { r: DOT_RADIUS, fill: COLOURS[record.group], role: "option", id: `dot-${i}` });
      dot.append(drawing("title", {}, record.name));
      map.append(dot);
      return dot;
    });
    this.groups.forEach((group, i) => this.addGroup(group, i));
    map.addEventListener("pointermove", (event) => {
      // Who drags the map looks elsewhere; while all of it is in sight, a finger points like a mouse.
      if (!event.buttons || this.sight.zoom === 1) this.point(event);
    });
    map.addEventListener("pointerdown", (event) => this.point(event));
    gestures(map, {
      drag: (across, down) => this.look((sight) => sight.drag(across / map.clientWidth, down / map.clientHeight)),
      zoom: (factor, x, y) => {
        const { left, top } = map.getBoundingClientRect();
        this.look((sight) => sight.approach(factor, (x - left) / map.clientWidth, (y - top) / map.clientHeight));
      },
      reset: () => this.look((sight) => sight.reset()),
    });
    map.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || !this.key(event)) return;
      event.preventDefault();
    });
    element("find").addEventListener("input", (event) => {
      this.words = event.target.value.trim().toLowerCase();
      this.filter();
    });
    element("theme").addEventListener("click", () => this.preview.switchTheme());
    addEventListener("resize", () => this.place());
  }

  addGroup(group, i) {
    const item = document.createElement("li"), button = text("button", group);
    button.type = "button";
    button.style.setProperty("--colour", COLOURS[i]);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      if (!this.hidden.delete(i)) this.hidden.add(i);
      button.setAttribute("aria-pressed", String(!this.hidden.has(i)));
      this.filter();
    });
    item.append(button);
    element("legend").append(item);
  }

  isShown(record) {
    const words = `${record.name} ${record.detail} ${this.groups[record.group]}`.toLowerCase();
    return !this.hidden.has(record.group) && words.includes(this.words);
  }

  filter() {
    this.dots.forEach((dot, i) => dot.classList.toggle("faint", !this.isShown(this.records[i])));
  }

  /** Do what a key says; whether it says anything. */
  key({ key, shiftKey }) {
    const [across, down] = { ArrowRight: [1, 0], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowUp: [0, -1] }[key] ?? [0, 0];
    const closer = { "+": KEY_ZOOM, "=": KEY_ZOOM, "-": 1 / KEY_ZOOM, _: 1 / KEY_ZOOM }[key];
    if (closer) this.look((sight) => sight.approach(closer, ...this.focus()));
    else if (key === "0") this.look((sight) => sight.reset());
    else if (!across && !down) return false;
    else if (shiftKey) this.look((sight) => sight.drag(-across * KEY_STEP, -down * KEY_STEP));
    else this.go(across + down);
    return true;
  }

  /** What keys zoom around: the chosen dot, if it is in sight, else the middle. */
  focus() {
    return this.isInSight(this.places[this.chosen]) ? this.sight.at(this.parts[this.chosen]) : [0.5, 0.5];
  }

  isInSight([x, y]) {
    const { clientWidth, clientHeight } = element("map");
    return x >= 0 && y >= 0 && x <= clientWidth && y <= clientHeight;
  }

  /** Change what is in sight. */
  look(change) {
    change(this.sight);
    this.place();
  }

  /** Put the dots where the size of the map and what is in sight of it want them. */
  place() {
    const map = element("map"), [width, height] = [map.clientWidth, map.clientHeight].map((side) => Math.max(side, 1));
    map.setAttribute("viewBox", `0 0 ${width} ${height}`);
    map.classList.toggle("closer", this.sight.zoom > 1);
    const inside = (part, side) => (MARGIN + part * Math.max(side - 2 * MARGIN, 1)) / side;
    this.parts = this.records.map(({ x, y }) => [inside(x, width), inside(1 - y, height)]);
    this.places = this.parts.map((part) => {
      const [x, y] = this.sight.at(part);
      return [x * width, y * height];
    });
    this.dots.forEach((dot, i) => {
      dot.setAttribute("cx", this.places[i][0].toFixed(1));
      dot.setAttribute("cy", this.places[i][1].toFixed(1));
    });
  }

  point(event) {
    const { left, top } = element("map").getBoundingClientRect();
    let best = -1, least = REACH;
    this.places.forEach((place, i) => {
      const distance = Math.hypot(place[0] - event.clientX + left, place[1] - event.clientY + top);
      if (distance < least && this.isInSight(place) && this.isShown(this.records[i])) [best, least] = [i, distance];
    });
    if (best >= 0) this.choose(best);
  }

  /** To the next motion shown, from left to right; the map follows. */
  go(step) {
    const shown = this.records.map((record, i) => i).filter((i) => this.isShown(this.records[i]));
    if (!shown.length) return;
    shown.sort((a, b) => this.records[a].x - this.records[b].x);
    const at = shown.indexOf(this.chosen);
    const next = shown[(at + step + shown.length) % shown.length];
    if (!this.isInSight(this.places[next])) this.look((sight) => sight.centre(this.parts[next]));
    this.choose(next);
  }

  async choose(i) {
    if (i === this.chosen) return;
    this.dots[this.chosen]?.classList.remove("chosen");
    this.chosen = i;
    const record = this.records[i], dot = this.dots[i];
    dot.classList.add("chosen");
    dot.parentNode.append(dot); // above the others
    element("map").setAttribute("aria-activedescendant", dot.id);
    element("name").textContent = record.name;
    element("detail").textContent = record.detail;
    const asked = ++this.asked;
    const frames = await readFrames(record);
    // The pointer may have gone on meanwhile.
    if (asked !== this.asked) return;
    this.preview.show([new Motion(record, frames, this.body)], { playing: !reducedMotion });
    this.preview.stage.drawn[0].colour = linear(COLOURS[record.group]);
  }
}

async function start() {
  const { data, body } = await readPage();
  const page = new LibraryPage(data, body);
  document.body.classList.add("ready");
  /** For scripts and tests: `mclip.choose(i)`, `mclip.chosen`, `mclip.time`, `mclip.zoom`, `mclip.places` (pixels). */
  window.mclip = {
    choose: (i) => page.choose(i),
    play: () => page.preview.clock.play(),
    get chosen() {
      return page.chosen;
    },
    get time() {
      return page.preview.clock?.time ?? 0;
    },
    get places() {
      return page.places;
    },
    get zoom() {
      return page.sight.zoom;
    },
  };
}

start().catch(fail);
