// Charts in SVG: lines over time, and small ones without axes.

import { h, s } from "./dom.js";

const SPANS = [60, 120, 300]; // seconds: as long as there is something to show
const HEIGHT = 190;
const LEFT = 52;
const BOTTOM = 22;
const TOP = 8;
const RIGHT = 10;

// {element, update(lines, now)}: each line is {name, kind, points: [[seconds, value or null], ...]}. `kind` says how it
// looks, see .line in style.css.
export function lineChart(title, format, note) {
  const figure = s("svg", { class: "chart", role: "img", height: HEIGHT });
  const legend = h("div", { class: "legend" });
  const element = h(
    "section",
    { class: "card chart-card" },
    h("div", { class: "chart-head" }, h("h2", {}, title), legend),
    figure,
    note ? h("p", { class: "hint" }, note) : null,
  );
  let shown = { lines: [], now: 0 };
  let hover = null;

  function draw() {
    const { lines, now } = shown;
    const width = Math.max(figure.clientWidth, 240);
    const age = now - Math.min(now, ...lines.flatMap((line) => line.points.slice(0, 1).map(([when]) => when)));
    const span = SPANS.find((seconds) => age <= seconds) ?? SPANS.at(-1);
    figure.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const values = lines.flatMap((line) => line.points.map(([, value]) => value ?? 0));
    const top = niceTop(Math.max(0, ...values));
    const x = (when) => width - RIGHT - ((now - when) / span) * (width - LEFT - RIGHT);
    const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
    const at = hover === null ? null : now - ((width - RIGHT - hover) / (width - LEFT - RIGHT)) * span;
    figure.replaceChildren(
      ...[0, 0.5, 1].flatMap((share) => [
        s("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(top * share), y2: y(top * share) }),
        s("text", { class: "tick", x: LEFT - 8, y: y(top * share) + 4, "text-anchor": "end" }, share ? format(top * share) : "0"),
      ]),
      ...[
        [span, `${span / 60} min ago`, "start"],
        [0, "now", "end"],
      ].map(([ago, text, anchor]) =>
        s("text", { class: "tick", x: x(now - ago), y: HEIGHT - 5, "text-anchor": anchor }, text),
      ),
      ...lines.map((line) => s("path", { class: `line ${line.kind}`, d: path(line.points, x, y) })),
      ...(at === null ? [] : [s("line", { class: "cursor", x1: hover, x2: hover, y1: TOP, y2: HEIGHT - BOTTOM })]),
    );
    const shownValues = lines.map((line) => {
      const value = at === null ? line.points.at(-1)?.[1] : nearest(line.points, at);
      return [line, value === null || value === undefined ? "–" : format(value)];
    });
    legend.replaceChildren(
      ...shownValues.map(([line, value]) =>
        h("span", { class: `key ${line.kind}` }, line.name ? `${line.name} ` : "", h("strong", {}, value)),
      ),
    );
    figure.setAttribute("aria-label", `${title}: ${shownValues.map(([line, value]) => `${line.name} ${value}`).join(", ")}`);
  }

  figure.addEventListener("pointermove", (event) => {
    const offset = event.clientX - figure.getBoundingClientRect().left;
    hover = offset < LEFT ? null : offset;
    draw();
  });
  figure.addEventListener("pointerleave", () => {
    hover = null;
    draw();
  });
  new ResizeObserver(draw).observe(figure);
  return {
    element,
    update(lines, now) {
      shown = { lines: lines.map((line) => ({ ...line, points: line.points.filter(([when]) => now - when <= SPANS.at(-1)) })), now };
      draw();
    },
  };
}

// A line without axes: what the last minutes were like, at a glance.
export function sparkline(values, label) {
  const known = values.slice(-60);
  const top = Math.max(1e-9, ...known.map((value) => value ?? 0));
  const points = known.map((value, i) => [i - known.length + 60, value]);
  const d = path(points, (i) => (i / 60) * 118 + 1, (value) => 27 - (value / top) * 24);
  return s("svg", { class: "spark", viewBox: "0 0 120 30", role: "img", "aria-label": label }, s("path", { class: "line first", d }));
}

// Lines break where a value is not known.
function path(points, x, y) {
  let d = "";
  let pen = "M";
  for (const [at, value] of points) {
    if (value === null) {
      pen = "M";
      continue;
    }
    d += `${pen}${x(at).toFixed(1)} ${y(value).toFixed(1)}`;
    pen = "L";
  }
  return d;
}

function nearest(points, when) {
  let best = null;
  for (const [at, value] of points) {
    if (best === null || Math.abs(at - when) < Math.abs(best[0] - when)) best = [at, value];
  }
  return best?.[1];
}

function niceTop(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 4, 5, 10].map((factor) => factor * power).find((top) => top >= value * 1.02) ?? 20 * power;
}
