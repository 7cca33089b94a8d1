// The plots: plain SVG, drawn anew with every story. All share the axis of time; outages are shaded through all of them.

const LEFT = 84;
const RIGHT = 10;
const ROW = 24;

const SERIES = { hit: "look-up, hit", miss: "look-up, miss", trade: "trade", error: "error" };

// A mark for every series, around its origin: colours alone do not tell lines apart.
const MARKS = {
  hit: "M-3.500 0a3.500 3.500 0 1 0 7 0a3.500 3.500 0 1 0-7 0z",
  miss: "M-3.200-3.200h6.400v6.400h-6.400z",
  trade: "M0-4.300l4.200 7.500h-8.400z",
  error: "M0-4.600L4.600 0 0 4.600-4.600 0z",
};
const MARK_EVERY_PX = 90;

function svg(tag, attributes = {}, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text) node.textContent = text;
  return node;
}

function stage(box, height, label) {
  const width = Math.max(box.clientWidth, 280);
  const root = svg("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": label });
  box.replaceChildren(root);
  return { root, width };
}

function timeScale(story, width) {
  const all = story.now_ms - story.from_ms;
  return (ms) => LEFT + (Math.min(Math.max(ms - story.from_ms, 0), all) / all) * (width - LEFT - RIGHT);
}

function shadeOutages(root, story, x, height) {
  for (const outage of story.outages) {
    const from = x(outage.since_ms);
    const until = x(outage.until_ms ?? story.now_ms);
    root.append(svg("rect", { class: "outage", x: from, width: Math.max(until - from, 2.5), y: 0, height }));
  }
}

function drawTimes(root, story, x, y) {
  const all = (story.now_ms - story.from_ms) / 1000;
  const room = Math.floor((x(story.now_ms) - LEFT) / 72);
  const step = [15, 30, 60, 120].find((seconds) => all / seconds <= room) ?? 300;
  root.append(svg("text", { x: x(story.now_ms), y, "text-anchor": "end" }, "now"));
  for (let seconds = step; seconds <= all; seconds += step) {
    const text = seconds % 60 === 0 ? `−${seconds / 60} min` : `−${seconds} s`;
    const anchor = all - seconds < step / 4 ? "start" : "middle";
    root.append(svg("text", { x: x(story.now_ms - seconds * 1000), y, "text-anchor": anchor }, text));
  }
}

// States.

const WORDS = { leader: "leads", level: "follows", running: "runs" };

export function drawTimeline(box, story) {
  const names = Object.keys(story.timeline).sort((a, b) => order(a).localeCompare(order(b)));
  const height = names.length * ROW + 18;
  const states = names.map((name) => `${name} ${story.timeline[name].at(-1)?.look ?? "unknown"}`);
  const { root, width } = stage(box, height, `States over the last minutes; now: ${states.join(", ")}`);
  const x = timeScale(story, width);
  shadeOutages(root, story, x, names.length * ROW);
  names.forEach((name, row) => {
    const y = row * ROW + 3;
    root.append(svg("text", { class: "name", x: 0, y: y + 13 }, name));
    for (const span of story.timeline[name]) drawSpan(root, span, x, y, story.now_ms);
  });
  drawTimes(root, story, x, height - 3);
}

function drawSpan(root, span, x, y, now) {
  const from = x(span.since_ms);
  const width = Math.max(x(span.until_ms ?? now) - from, 1);
  const title = svg("title", {}, span.look);
  const rect = svg("rect", { class: `span ${span.look}`, x: from, y, width, height: ROW - 7, rx: 2 });
  rect.append(title);
  root.append(rect);
  const word = WORDS[span.look] ?? span.look;
  if (width > word.length * 7 + 10) root.append(svg("text", { class: `in ${span.look}`, x: from + 5, y: y + 12.5 }, word));
}

const order = (name) => (name.startsWith("front") ? `0${name}` : name.startsWith("order") ? `1${name}` : `2${name}`);

// Figures.

export function drawRate(box, key, story) {
  const kinds = ["hit", "miss", "trade", "error"];
  const top = niceTop(Math.max(10, ...story.points.flatMap((point) => kinds.map((kind) => point.figures[kind].per_s))));
  const height = 118;
  const last = story.points.at(-1)?.figures;
  const label = `Requests a second over the last minutes; now: ${kinds.map((kind) => `${SERIES[kind]} ${shown(last?.[kind].per_s)}`).join(", ")}`;
  const { root, width } = stage(box, height, label);
  const x = timeScale(story, width);
  const y = (value) => 8 + (1 - value / top) * (height - 28);
  shadeOutages(root, story, x, height - 18);
  for (const share of [0, 0.5, 1]) drawGrid(root, width, y(share * top), (share * top).toLocaleString("en-US"));
  for (const kind of kinds) drawLine(root, story.points, x, (point) => rateAt(point.figures[kind].per_s, kind, y), kind, "");
  drawTimes(root, story, x, height - 3);
  showKey(key, kinds.map((kind) => [kind, `${SERIES[kind]} ${shown(last?.[kind].per_s)}`]));
}

// No line of errors where there are none: it would lie on the axis and cry wolf.
const rateAt = (value, kind, y) => (kind === "error" && value === 0 ? null : y(value));

export function drawLatency(box, key, story) {
  const kinds = ["hit", "miss", "trade"];
  const height = 150;
  const last = lastFigures(story.points, kinds);
  const words = kinds.map((kind) => `${SERIES[kind]} ${shown(last[kind]?.p50_ms)} / ${shown(last[kind]?.p99_ms)}`);
  const { root, width } = stage(box, height, `Latency over the last minutes in milliseconds, p50 and p99; last: ${words.join(", ")}`);
  const x = timeScale(story, width);
  const [low, high] = [Math.log10(0.05), Math.log10(10_000)];
  const y = (ms) => 8 + (1 - (Math.log10(Math.min(Math.max(ms, 0.05), 10_000)) - low) / (high - low)) * (height - 28);
  shadeOutages(root, story, x, height - 18);
  for (const ms of [0.1, 1, 10, 100, 1_000, 10_000]) drawGrid(root, width, y(ms), ms < 1000 ? `${ms}` : `${ms / 1000} s`);
  for (const kind of kinds) {
    for (const share of ["p50", "p99"]) {
      drawLine(root, story.points, x, (point) => (point.figures[kind][`${share}_ms`] === null ? null : y(point.figures[kind][`${share}_ms`])), kind, share);
    }
  }
  drawTimes(root, story, x, height - 3);
  showKey(key, kinds.map((kind, n) => [kind, words[n]]));
}

function lastFigures(points, kinds) {
  const found = {};
  for (const point of points.slice(-10)) for (const kind of kinds) if (point.figures[kind].p50_ms !== null) found[kind] = point.figures[kind];
  return found;
}

function drawGrid(root, width, y, text) {
  root.append(svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
  root.append(svg("text", { x: LEFT - 8, y: y + 4, "text-anchor": "end" }, text));
}

// A line is broken where there was nothing to measure; a point that stands alone is a dot.
function drawLine(root, points, x, y, kind, share) {
  let run = [];
  const finish = () => {
    if (run.length === 1) root.append(svg("circle", { class: `dot ${kind}`, cx: run[0][0], cy: run[0][1], r: 1.6 }));
    if (run.length > 1) root.append(svg("path", { class: `line ${kind} ${share}`, d: `M${run.map(([a, b]) => `${a.toFixed(1)} ${b.toFixed(1)}`).join("L")}` }));
    if (share !== "p99") drawMarks(root, run, kind);
    run = [];
  };
  for (const point of points) {
    const value = y(point);
    if (value === null) finish();
    else run.push([x(point.at_ms), value]);
  }
  finish();
}

// From the newest point backwards, so that every line has one at its end.
function drawMarks(root, run, kind) {
  let last = Infinity;
  for (const [x, y] of run.toReversed()) {
    if (last - x < MARK_EVERY_PX) continue;
    last = x;
    root.append(svg("path", { class: `mark ${kind}`, d: MARKS[kind], transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` }));
  }
}

function niceTop(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((factor) => factor * power).find((top) => top >= value);
}

const shown = (value) => (value === undefined || value === null ? "–" : value === 0 ? "0" : value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toPrecision(2));

function showKey(box, items) {
  const text = items.map(([, words]) => words).join();
  if (box.dataset.key === text) return;
  box.dataset.key = text;
  box.replaceChildren(
    ...items.map(([kind, words]) => {
      const item = document.createElement("span");
      item.className = kind;
      const sample = svg("svg", { viewBox: "-11 -6 22 12", "aria-hidden": "true" });
      sample.append(svg("path", { class: `line ${kind}`, d: "M-11 0H11" }), svg("path", { class: `mark ${kind}`, d: MARKS[kind] }));
      item.append(sample, words);
      return item;
    }),
  );
}
