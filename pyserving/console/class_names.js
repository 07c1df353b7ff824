// Names for the places of a vector, such as the classes of a classifier: pasted or from a file, kept for each model.

import { h, labelled, newId } from "./dom.js";
import { plural } from "./text.js";

const key = (model) => `pyserving-classes-${model}`;

export function classNames(model) {
  return read(localStorage.getItem(key(model)) ?? "");
}

// One name in a line, or a JSON list, or a JSON object by number, whose values may be lists as in Keras' files.
function read(text) {
  const trimmed = text.trim();
  if (trimmed[0] === "[" || trimmed[0] === "{") {
    try {
      const data = JSON.parse(trimmed);
      const names = [];
      for (const [i, value] of Object.entries(data)) names[Number(i)] = String(Array.isArray(value) ? value.at(-1) : value);
      return names;
    } catch {
      // then it is lines
    }
  }
  return trimmed ? trimmed.split(/\r?\n/).map((line) => line.trim()) : [];
}

// `onchange` is called when there are other names.
export function classNamesEditor(model, onchange) {
  const area = h("textarea", { rows: 4, value: localStorage.getItem(key(model)) ?? "" });
  const count = h("span", { class: "muted" });
  const picker = h("input", { type: "file", accept: ".txt,.csv,.json,text/plain", class: "offscreen", id: newId("names") });
  function keep() {
    if (area.value.trim()) localStorage.setItem(key(model), area.value);
    else localStorage.removeItem(key(model));
    tell();
    onchange();
  }
  function tell() {
    const names = classNames(model);
    count.textContent = names.length ? plural(names.length, "name") : "none";
  }
  area.addEventListener("input", keep);
  picker.addEventListener("change", async () => {
    area.value = await picker.files[0].text();
    keep();
  });
  tell();
  return h(
    "details",
    { class: "more" },
    h("summary", {}, "Class names: ", count),
    labelled("One name in a line, the first for place 0", area),
    h("p", {}, picker, h("label", { class: "button small", for: picker.id }, "From a file…")),
  );
}
