// The page of a training run: a chart of each term, and recordings beside what the last checkpoint makes of them.

const WIDTH = 420, HEIGHT = 200, LEFT = 58, RIGHT = 12, TOP = 12, BOTTOM = 24;
// Values that differ by more than this factor are drawn on a logarithmic scale.
const LOGARITHMIC = 8;

/** A number in three digits, the very small in two. */
function short(value) {
  return value && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

/** One curve as a figure. A pointer above it reads it. */
function chart({ name, points }) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption"), last = points.at(-1);
  const reading = text("span", last ? short(last[1]) : "");
  caption.append(text("strong", name), reading);
  const svg = drawing("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${name} by step` });
  figure.append(caption, svg);
  if (!points.length) return figure;
  const values = points.map(([, value]) => value), steps = points.map(([step]) => step);
  let low = Math.min(...values), high = Math.max(...values);
  const bend = low > 0 && high / low > LOGARITHMIC ? Math.log : (value) => value;
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const first = steps[0], range = steps.at(-1) - first || 1;
  const x = (step) => LEFT + ((step - first) / range) * (WIDTH - LEFT - RIGHT);
  const y = (value) => TOP + ((bend(high) - bend(value)) / (bend(high) - bend(low))) * (HEIGHT - TOP - BOTTOM);
  const middle = bend === Math.log ? Math.sqrt(low * high) : (low + high) / 2;
  for (const value of [low, middle, high]) {
    svg.append(drawing("path", { class: "line", d: `M${LEFT} ${y(value)}H${WIDTH - RIGHT}` }));
    svg.append(drawing("text", { x: LEFT - 8, y: y(value) + 4, "text-anchor": "end" }, short(value)));
  }
  svg.append(drawing("text", { x: LEFT, y: HEIGHT - 5 }, String(Math.round(first))));
  svg.append(drawing("text", { x: WIDTH - RIGHT, y: HEIGHT - 5, "text-anchor": "end" }, `step ${Math.round(steps.at(-1))}`));
  const line = points.map(([step, value]) => `${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("L");
  svg.append(drawing("path", { class: "curve", d: `M${line}` }));
  const mark = drawing("circle", { r: 4, cx: x(last[0]), cy: y(last[1]) });
  svg.append(mark);
  const read = ([step, value], label) => {
    mark.setAttribute("cx", x(step));
    mark.setAttribute("cy", y(value));
    reading.textContent = label;
  };
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const step = first + (((event.clientX - box.left) / box.width) * WIDTH - LEFT) / (WIDTH - LEFT - RIGHT) * range;
    const near = points.reduce((best, point) => (Math.abs(point[0] - step) < Math.abs(best[0] - step) ? point : best));
    read(near, `${short(near[1])} at ${Math.round(near[0])}`);
  });
  svg.addEventListener("pointerleave", () => read(last, short(last[1])));
  return figure;
}

async function start() {
  const { data, body } = await readPage();
  element("title").textContent = document.title;
  element("facts").textContent = data.facts;
  element("charts").append(...data.curves.map(chart));
  const preview = new Preview(element("stage"), body);
  element("theme").addEventListener("click", () => preview.switchTheme());
  let asked = 0;
  const choose = async (i) => {
    const sample = data.samples[i], mine = ++asked;
    [...element("samples").children].forEach((item, k) => item.firstChild.setAttribute("aria-pressed", String(k === i)));
    element("name").textContent = sample.name;
    const pair = await Promise.all(
      [sample.recorded, sample.decoded].map(async (record) => new Motion(record, await readFrames(record), body)),
    );
    if (mine === asked) preview.show(pair, { playing: !reducedMotion });
  };
  for (const [i, sample] of data.samples.entries()) {
    const item = document.createElement("li"), button = text("button", sample.name);
    button.type = "button";
    button.addEventListener("click", () => choose(i));
    item.append(button);
    element("samples").append(item);
  }
  if (data.samples.length) {
    element("detail").textContent = "left as it was recorded, right as the last checkpoint decodes it";
    await choose(0);
  } else {
    element("stage").hidden = true;
    element("detail").textContent = `no samples: ${data.why}`;
  }
  document.body.classList.add("ready");
  /** For scripts and tests: `mclip.choose(i)`, `mclip.play()`, `mclip.time`. */
  window.mclip = {
    choose,
    play: () => preview.clock.play(),
    get time() {
      return preview.clock?.time ?? 0;
    },
  };
}

start().catch(fail);
