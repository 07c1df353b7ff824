// What a person fills in for one input of a signature. Values are kept as JSON text: an int64 has digits that a
// JavaScript number would lose.

import { choice, h, labelled, newId } from "./dom.js";
import { InputError, imageLayout } from "./images.js";
import { fileDrop, imageField } from "./image_field.js";
import { bytes, plural, shapeText } from "./text.js";

const MOST_FILE = 64e6;

const INTEGERS = { int8: [-128n, 127n], uint8: [0n, 255n], int16: [-32768n, 32767n], int32: [-(2n ** 31n), 2n ** 31n - 1n], uint32: [0n, 2n ** 32n - 1n], int64: [-(2n ** 63n), 2n ** 63n - 1n], uint64: [0n, 2n ** 64n - 1n] };

// {element, read()}: `read` returns, maybe later, the JSON texts of the rows where the input has `rows`, else one text
// of the whole tensor. It raises InputError.
export function newField(input, rows) {
  const shape = input.shape && rows ? input.shape.slice(1) : input.shape;
  const kinds = kindsOf(input, shape);
  const place = h("div", { class: "field-body" });
  let current;
  function choose(kind) {
    current = makers[kind](input, shape, rows);
    place.replaceChildren(current.element);
  }
  choose(kinds[0][0]);
  const element = h(
    "fieldset",
    { class: "field" },
    h(
      "legend",
      {},
      h("span", { class: "field-name" }, input.name),
      h("span", { class: "field-type" }, `${input.dtype} ${shapeText(input.shape)}`.trim()),
    ),
    kinds.length > 1 ? choice(`How to give ${input.name}`, kinds, kinds[0][0], choose) : null,
    place,
  );
  return { element, read: () => current.read() };
}

function kindsOf(input, shape) {
  if (!input.json) return [["impossible", ""]];
  if (input.dtype === "string") return [["text", "Text"], ["file", "File"], ["json", "JSON"]];
  const layout = input.dtype === "bool" ? null : imageLayout(shape);
  const values = input.shape === null ? [] : [["values", input.dtype === "bool" ? "Values" : "Numbers"]];
  const json = [["json", "JSON"]];
  if (!layout) return [...values, ...json];
  const pictures = [["image", "Picture"], ["draw", "Draw"]];
  if (layout.channels === 1 && layout.height <= 32) pictures.reverse();
  return layout.order === "HWC flat" && shape[0] !== 784 ? [...values, ...pictures, ...json] : [...pictures, ...values, ...json];
}

const asRows = (rows, field) => ({ ...field, read: async () => (rows ? [await field.read()] : await field.read()) });

const makers = {
  image: (input, shape, rows) => asRows(rows, imageField(input, imageLayout(shape), false)),
  draw: (input, shape, rows) => asRows(rows, imageField(input, imageLayout(shape), true)),
  values: valuesField,
  text: textField,
  file: bytesField,
  json: jsonField,
  impossible: impossibleField,
};

function impossibleField(input) {
  const why = `JSON cannot carry ${input.dtype}, so this form cannot make ${input.name}. Ask for this signature over gRPC.`;
  return {
    element: h("p", { class: "problem" }, why),
    read() {
      throw new InputError(why);
    },
  };
}

function valuesField(input, shape, rows) {
  const free = shape.filter((size) => size === null).length;
  const count = shape.reduce((product, size) => product * (size ?? 1), 1);
  const area = h("textarea", { rows: count > 8 || free ? 4 : 2, spellcheck: "false", autocapitalize: "off" });
  const sample = input.dtype === "bool" ? "true" : INTEGERS[input.dtype] ? "1" : "1.0";
  if (count <= 8 && !free) area.value = Array(count).fill(sample).join(", ");
  const text = hint();

  function hint() {
    if (!shape.length) return rows ? "One value for each row, with commas or spaces between" : "One value";
    if (!free) return `${plural(count, "value")}${rows ? " for each row" : ""}, with commas, spaces or line breaks between`;
    return rows ? "A line for each row, values with commas or spaces between" : "All values, with commas or spaces between";
  }

  // Values one after the other to nested lists; at most one size is free.
  function nested(values, sizes) {
    if (!sizes.length) return values[0];
    const [size, ...inner] = sizes;
    const width = values.length / size;
    return `[${Array.from({ length: size }, (_, i) => nested(values.slice(i * width, (i + 1) * width), inner)).join(",")}]`;
  }

  function filled(values, where) {
    if (!free) return nested(values, shape);
    const length = values.length / count;
    if (!Number.isInteger(length)) throw new InputError(`${input.name}${where}: expected a multiple of ${plural(count, "value")}, got ${values.length}.`);
    return nested(values, shape.map((size) => size ?? length));
  }

  return {
    element: labelled(`Values of ${input.name}`, area, text, { quiet: true }),
    read() {
      if (free > 1) throw new InputError(`${input.name} has several sizes that are free: give it as JSON.`);
      if (free && rows) {
        const lines = area.value.split("\n").map((line) => tokens(input, line)).filter((line) => line.length);
        if (!lines.length) throw new InputError(`Fill in ${input.name}.`);
        return lines.map((line, i) => filled(line, `, line ${i + 1}`));
      }
      const values = tokens(input, area.value);
      if (!values.length) throw new InputError(`Fill in ${input.name}.`);
      if (free) return filled(values, "");
      if (rows ? values.length % count : values.length !== count) {
        throw new InputError(`${input.name}: expected ${rows && count > 1 ? "a multiple of " : ""}${plural(count, "value")}, got ${values.length}.`);
      }
      if (!rows) return nested(values, shape);
      return Array.from({ length: values.length / count }, (_, i) => nested(values.slice(i * count, (i + 1) * count), shape));
    },
  };
}

// The values in `text`, each checked against the dtype, as JSON texts.
function tokens(input, text) {
  const found = text.split(/[\s,;[\]()]+/).filter(Boolean);
  const limits = INTEGERS[input.dtype];
  return found.map((token) => {
    if (input.dtype === "bool") {
      if (/^(true|false)$/i.test(token)) return token.toLowerCase();
      throw new InputError(`${input.name}: expected true or false, got ${token}.`);
    }
    if (limits) {
      if (!/^[+-]?\d+$/.test(token)) throw new InputError(`${input.name}: expected whole numbers (${input.dtype}), got ${token}.`);
      const value = BigInt(token);
      if (value < limits[0] || value > limits[1]) throw new InputError(`${input.name}: ${token} is not from ${limits[0]} to ${limits[1]} (${input.dtype}).`);
      return String(value);
    }
    if (/^[+-]?(nan|inf(inity)?)$/i.test(token)) return `${token[0] === "-" ? "-" : ""}${/nan/i.test(token) ? "NaN" : "Infinity"}`;
    if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(token)) throw new InputError(`${input.name}: expected numbers, got ${token}.`);
    return String(Number(token));
  });
}

function textField(input, shape, rows) {
  const area = h("textarea", { rows: 3 });
  const lines = h("input", { type: "checkbox", id: newId("lines") });
  const several = rows ? h("div", { class: "check" }, lines, h("label", { for: lines.id }, "Each line is a text of its own")) : null;
  // A text alone fills one cell, however many dimensions of size 1 there are around it.
  const wrap = (text) => shape?.reduce((inner, size) => {
    if (size !== null && size !== 1) throw new InputError(`${input.name} takes several texts at a time: give it as JSON.`);
    return `[${inner}]`;
  }, JSON.stringify(text)) ?? JSON.stringify(text);
  return {
    element: h("div", {}, labelled(`Text of ${input.name}`, area, null, { quiet: true }), several),
    read() {
      if (!rows) return wrap(area.value);
      const texts = lines.checked ? area.value.split("\n").filter((line) => line.trim()) : [area.value];
      if (!texts.length) throw new InputError(`Fill in ${input.name}.`);
      return texts.map(wrap);
    },
  };
}

function bytesField(input, shape, rows) {
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  let encoded = null;
  const drop = fileDrop("Drop a file here, or choose one", "", async (file) => {
    problem.hidden = file.size <= MOST_FILE;
    problem.textContent = problem.hidden ? "" : `${file.name} has ${bytes(file.size)}; this form takes files of up to 64 MB.`;
    encoded = problem.hidden ? base64(new Uint8Array(await file.arrayBuffer())) : null;
    drop.querySelector(".drop-name").textContent = encoded === null ? "" : `${file.name}, ${bytes(file.size)}`;
  });
  return {
    element: h("div", {}, drop, problem),
    read() {
      if (encoded === null) throw new InputError(`Choose a file for ${input.name}.`);
      const value = (shape ?? []).reduce((inner) => `[${inner}]`, `{"b64":"${encoded}"}`);
      return rows ? [value] : value;
    },
  };
}

function base64(data) {
  let text = "";
  for (let i = 0; i < data.length; i += 0x8000) text += String.fromCharCode(...data.subarray(i, i + 0x8000));
  return btoa(text);
}

function jsonField(input, _, rows) {
  const area = h("textarea", { rows: 4, spellcheck: "false", class: "code" });
  const hint = `${rows ? "A list of rows" : "A value, or nested lists"}, shape ${shapeText(input.shape)}`;
  return {
    element: labelled(`JSON of ${input.name}`, area, hint, { quiet: true }),
    read() {
      const text = area.value.trim();
      if (!text) throw new InputError(`Fill in ${input.name}.`);
      const parsed = checkedJson(text, input.name);
      if (!rows) return text;
      if (!Array.isArray(parsed)) throw new InputError(`${input.name}: expected a list of rows.`);
      return topLevelItems(text);
    },
  };
}

// What JSON is as the server reads it: NaN and Infinity are numbers.
export function checkedJson(text, name) {
  try {
    return JSON.parse(text.replace(/"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b/g, (token) => (token[0] === '"' ? token : "0")));
  } catch (error) {
    throw new InputError(`${name} is no JSON: ${error.message}`);
  }
}

// The texts of the items of a JSON list, as they stand there.
function topLevelItems(text) {
  const items = [];
  let depth = 0;
  let start = text.indexOf("[") + 1;
  for (const match of text.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{},]/g)) {
    const token = match[0];
    if (token === "[" || token === "{") depth += 1;
    else if (token === "]" || token === "}") depth -= 1;
    if ((token === "," && depth === 1) || (token === "]" && depth === 0)) {
      const item = text.slice(start, match.index).trim();
      if (item) items.push(item);
      start = match.index + 1;
    }
  }
  return items;
}
