// The map of a library: a dot for each motion, coloured by the group it belongs to. Who points at a dot sees it move.

const DOT_RADIUS = 6.5;
// Pixels from the pointer within which a dot counts as meant.
const REACH = 28;
// Pixels around the dots.
const MARGIN = 34;

class LibraryPage {
  constructor(data, body) {
    this.records = data.motions;
    this.body = body;
    this.preview = new Preview(element("stage"), body);
    this.groups = data.groups;
    this.hidden = new Set();
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
    map.addEventListener("pointermove", (event) => this.point(event));
    map.addEventListener("pointerdown", (event) => this.point(event));
    map.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.go(step);
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

  /** Put the dots where the size of the map wants them. */
  place() {
    const map = element("map"), width = map.clientWidth, height = map.clientHeight;
    map.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.places = this.records.map(({ x, y }) => [
      MARGIN + x * Math.max(width - 2 * MARGIN, 1),
      MARGIN + (1 - y) * Math.max(height - 2 * MARGIN, 1),
    ]);
    this.dots.forEach((dot, i) => {
      dot.setAttribute("cx", this.places[i][0].toFixed(1));
      dot.setAttribute("cy", this.places[i][1].toFixed(1));
    });
  }

  point(event) {
    const { left, top } = element("map").getBoundingClientRect();
    let best = -1, least = REACH;
    this.places.forEach(([x, y], i) => {
      const distance = Math.hypot(x - event.clientX + left, y - event.clientY + top);
      if (distance < least && this.isShown(this.records[i])) [best, least] = [i, distance];
    });
    if (best >= 0) this.choose(best);
  }

  /** To the next motion shown, from left to right. */
  go(step) {
    const shown = this.records.map((record, i) => i).filter((i) => this.isShown(this.records[i]));
    if (!shown.length) return;
    shown.sort((a, b) => this.records[a].x - this.records[b].x);
    const at = shown.indexOf(this.chosen);
    this.choose(shown[(at + step + shown.length) % shown.length]);
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
  /** For scripts and tests: `mclip.choose(i)`, `mclip.chosen`, `mclip.time`, `mclip.places` (pixels on the map). */
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
  };
}

start().catch(fail);
