// The answer to a request, as tables and bars.

import { copyButton, h } from "./dom.js";
import { bytes, duration, number, percent, plural, shapeText } from "./text.js";

const MOST_ROWS = 20;
const MOST_BARS = 10;
const MOST_TEXT = 20_000;

// `answer`: what send() returned; `verb`: predict, classify or regress; `outputs`: those of the signature; `names`: of classes.
export function answerView({ text, data, seconds }, verb, outputs, names) {
  return [
    h(
      "p",
      { class: "answer-head" },
      h("span", { class: "chip ok" }, "Answered"),
      h("span", { class: "muted" }, `in ${duration(seconds)}, ${bytes(new Blob([text]).size)}`),
    ),
    h("div", { class: "answer-body" }, ofVerb(data, verb, outputs, names)),
    h(
      "details",
      { class: "more" },
      h("summary", {}, "JSON"),
      h("pre", { tabindex: 0 }, text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text),
      copyButton(() => text),
    ),
  ];
}

function ofVerb(data, verb, outputs, names) {
  if (verb === "classify") {
    return data.results.map((pairs, i) => titled(data.results.length, i, bars(pairs.map(([label, score], place) => [label || nameOf(names, place), score, place]))));
  }
  if (verb === "regress") return valueTable(data.results.map((value) => ({ value })), ["value"]);
  const only = outputs.length === 1 ? outputs[0].name : null;
  if (data.outputs !== undefined) {
    const values = only ? { [only]: data.outputs } : data.outputs;
    return Object.entries(values).map(([name, value]) => [h("h3", {}, name), valueView(value, names)]);
  }
  const rows = data.predictions.map((row) => (only ? { [only]: row } : row));
  const columns = Object.keys(rows[0] ?? {});
  if (rows.every((row) => columns.every((name) => isPlain(row[name])))) return valueTable(rows, columns);
  return [
    rows.slice(0, MOST_ROWS).map((row, i) =>
      titled(rows.length, i, columns.map((name) => [columns.length > 1 ? h("h4", {}, name) : null, valueView(row[name], names)])),
    ),
    rows.length > MOST_ROWS ? h("p", { class: "muted" }, `and ${rows.length - MOST_ROWS} more rows, see the JSON`) : null,
  ];
}

function titled(count, i, content) {
  return h("section", { class: "answer-row" }, count > 1 ? h("h3", {}, `Row ${i + 1}`) : null, content);
}

const isPlain = (value) => value === null || typeof value !== "object";

function valueTable(rows, columns) {
  if (rows.length === 1 && columns.length === 1) {
    return h("p", { class: "big" }, isPlain(rows[0][columns[0]]) ? number(rows[0][columns[0]], 6) : "");
  }
  const shown = rows.slice(0, 100);
  return [
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "group", "aria-label": "Answer" },
      h(
        "table",
        {},
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Row"), columns.map((name) => h("th", { scope: "col" }, name)))),
        h("tbody", {}, shown.map((row, i) => h("tr", {}, h("th", { scope: "row" }, i + 1), columns.map((name) => h("td", {}, number(row[name], 6)))))),
      ),
    ),
    rows.length > shown.length ? h("p", { class: "muted" }, `and ${rows.length - shown.length} more rows, see the JSON`) : null,
  ];
}

function valueView(value, names) {
  if (isPlain(value)) return h("p", { class: "big" }, number(value, 6));
  if (typeof value.b64 === "string") return bytesView(value.b64);
  if (Array.isArray(value) && value.length === 1 && Array.isArray(value[0])) return valueView(value[0], names);
  if (Array.isArray(value) && value.length > 0 && value.every((one) => typeof one === "number")) {
    if (value.length === 1) return h("p", { class: "big" }, number(value[0], 6));
    return bars(value.map((score, place) => [nameOf(names, place), score, place]));
  }
  if (Array.isArray(value) && value.every(isPlain)) return h("ol", { class: "values", start: 0 }, value.slice(0, 100).map((one) => h("li", {}, number(one))));
  const text = JSON.stringify(value);
  return [
    h("p", { class: "muted" }, `A tensor of shape ${shapeText(shapeOf(value))}`),
    h("pre", { tabindex: 0 }, text.length > 1000 ? `${text.slice(0, 1000)}…` : text),
  ];
}

function nameOf(names, place) {
  return names[place] || String(place);
}

function shapeOf(value) {
  const shape = [];
  while (Array.isArray(value)) {
    shape.push(value.length);
    value = value[0];
  }
  return shape;
}

// The largest first, where they are scores from 0 to 1; else in their order. `entries`: [name, value, place].
function bars(entries) {
  const values = entries.map(([, value]) => value);
  const scores = values.every((value) => value >= 0 && value <= 1.0001);
  const sum = values.reduce((a, b) => a + b, 0);
  const probabilities = scores && Math.abs(sum - 1) < 0.02;
  const largest = Math.max(...values.map(Math.abs), 1e-12);
  const sorted = scores ? [...entries].sort((a, b) => b[1] - a[1]) : entries;
  const named = entries.some(([name, , place]) => name !== String(place));
  const shown = sorted.slice(0, MOST_BARS);
  const list = h(
    "ol",
    { class: "bars" },
    shown.map(([name, value, place], i) => {
      const bar = h("span", { class: value < 0 ? "bar negative" : "bar" });
      bar.style.width = `${Math.max(0, Math.min(100, (Math.abs(value) / (scores ? 1 : largest)) * 100))}%`;
      return h(
        "li",
        { class: scores && i === 0 ? "first" : "" },
        h("span", { class: "bar-name" }, named ? name : `${name}`, named ? h("span", { class: "muted" }, ` ${place}`) : null),
        h("span", { class: "bar-track" }, bar),
        h("span", { class: "bar-value" }, probabilities ? percent(value) : number(value, 4)),
      );
    }),
  );
  const rest = entries.length - shown.length;
  return [list, rest > 0 ? h("p", { class: "hint" }, `${scores ? "The 10 largest" : "The first 10"} of ${plural(entries.length, "value")}`) : null];
}

function bytesView(base64) {
  const size = Math.floor((base64.length * 3) / 4);
  const kind = { iVBORw: "image/png", "/9j/": "image/jpeg", R0lGOD: "image/gif" };
  const found = Object.entries(kind).find(([start]) => base64.startsWith(start));
  const url = `data:${found?.[1] ?? "application/octet-stream"};base64,${base64}`;
  return [
    found ? h("img", { class: "answer-image", src: url, alt: "The picture that the model returned" }) : null,
    h("p", {}, h("a", { class: "button small", href: url, download: "answer" }, `Save, ${bytes(size)}`)),
  ];
}
