// An input that is a picture: from a file, or drawn by hand.

import { choice, h, labelled, newId, select } from "./dom.js";
import { CHANNELS, FITS, InputError, RANGES, centredDrawing, decode, fitted, shownTo, tensorText } from "./images.js";

const PAPER = 280;

// {element, read()}: `read` returns the JSON text of one picture's tensor. `drawn`: by hand, not from a file.
export function imageField(input, layout, drawn) {
  const integers = !["float", "double"].includes(input.dtype);
  const options = {
    height: layout.height ?? 224,
    width: layout.width ?? 224,
    fit: "stretch",
    channels: { 1: "gray", 3: "rgb", 4: "rgba" }[layout.channels ?? 3],
    range: integers ? "bytes" : "unit",
    invert: false,
  };
  let picture = null;
  const problem = h("p", { class: "problem", role: "alert", hidden: true });
  const preview = h("div", { class: "preview" });
  const paper = drawn ? drawingPaper(refresh) : null;

  // The data that goes to the model, and the same as a canvas. Raises InputError.
  function prepared() {
    let canvas;
    if (paper) canvas = centredDrawing(paper.canvas, options.width, options.height);
    else if (picture) canvas = fitted(picture, options.width, options.height, options.fit);
    else throw new InputError(`Choose a picture for ${input.name}.`);
    return { canvas, data: shownTo(canvas, options.channels, options.invert) };
  }

  function refresh() {
    try {
      const { canvas } = prepared();
      canvas.setAttribute("role", "img");
      canvas.setAttribute("aria-label", `What the model sees: ${options.width} by ${options.height} pixels`);
      if (options.width <= 64) canvas.classList.add("coarse");
      preview.replaceChildren(canvas, h("p", { class: "hint" }, `The model sees ${options.width} × ${options.height}`));
    } catch {
      preview.replaceChildren();
    }
  }

  function fail(error) {
    problem.textContent = error ? error.message : "";
    problem.hidden = !error;
  }

  async function take(file) {
    fail(null);
    try {
      picture = await decode(file);
      source.querySelector(".drop-name").textContent = `${file.name}, ${picture.width} × ${picture.height}`;
    } catch (error) {
      if (!(error instanceof InputError)) throw error;
      picture = null;
      source.querySelector(".drop-name").textContent = "";
      fail(error);
    }
    refresh();
  }

  const source = paper ? paper.element : fileDrop("Drop a picture here, or choose a file", "image/*", take);

  function set(name) {
    return (value) => {
      options[name] = value;
      refresh();
    };
  }

  const sizes = ["width", "height"]
    .filter((side) => layout[side] === null)
    .map((side) => {
      const box = h("input", { type: "number", min: 1, max: 4096, value: options[side] });
      box.addEventListener("input", () => {
        const size = Number(box.value);
        if (Number.isInteger(size) && size >= 1 && size <= 4096) set(side)(size);
      });
      return labelled(side === "width" ? "Width" : "Height", box);
    });
  const fitting = Object.entries(CHANNELS).filter(([, [, count]]) => layout.channels === null || count === layout.channels);
  const ranges = Object.entries(RANGES).filter(([key]) => (!integers || key === "bytes") && (layout.channels !== 1 || !["imagenet", "centred"].includes(key)));
  const invert = h("input", { type: "checkbox", id: newId("invert"), onchange: () => set("invert")(invert.checked) });
  const controls = h(
    "div",
    { class: "options" },
    sizes,
    drawn ? null : labelled("Size", select(Object.entries(FITS), options.fit, set("fit"))),
    fitting.length > 1 ? labelled("Channels", select(fitting.map(([key, [text]]) => [key, text]), options.channels, set("channels"))) : null,
    ranges.length > 1 ? labelled("Values", select(ranges.map(([key, [text]]) => [key, text]), options.range, set("range"))) : null,
    h("div", { class: "check" }, invert, h("label", { for: invert.id }, "Invert")),
  );

  return {
    element: h("div", { class: "image-field" }, h("div", { class: "image-source" }, source, preview), problem, controls),
    read() {
      const { data } = prepared();
      return tensorText(data, { ...layout, ...options }, options.channels, options.range, integers);
    },
  };
}

// Where a file can be dropped or chosen; `take` is given it.
export function fileDrop(text, accept, take) {
  const picker = h("input", { type: "file", accept, class: "offscreen", id: newId("file") });
  picker.addEventListener("change", () => picker.files[0] && take(picker.files[0]));
  const drop = h(
    "label",
    { class: "drop", for: picker.id },
    h("span", { class: "drop-text" }, text),
    h("span", { class: "drop-name", "aria-live": "polite" }),
  );
  const area = h("div", { class: "drop-area" }, picker, drop);
  const over = (on) => (event) => {
    event.preventDefault();
    drop.classList.toggle("over", on);
  };
  area.addEventListener("dragover", over(true));
  area.addEventListener("dragleave", over(false));
  area.addEventListener("drop", (event) => {
    over(false)(event);
    const file = event.dataTransfer.files[0];
    if (file) take(file);
  });
  return area;
}

// White ink on black, as in the MNIST collection.
function drawingPaper(onchange) {
  const canvas = h("canvas", {
    class: "paper",
    width: PAPER,
    height: PAPER,
    role: "img",
    "aria-label": "Paper to draw on with mouse, pen or finger. Without these, choose Picture or Numbers instead.",
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  let pen = 22;
  let last = null;

  function clear() {
    context.fillStyle = "#000";
    context.fillRect(0, 0, PAPER, PAPER);
    onchange();
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * PAPER) / box.width, ((event.clientY - box.top) * PAPER) / box.height];
  }

  function line(to) {
    context.strokeStyle = "#fff";
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = pen;
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...to);
    context.stroke();
    last = to;
  }

  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    last = place(event);
    line(last);
  });
  canvas.addEventListener("pointermove", (event) => last && line(place(event)));
  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, () => {
      if (last) onchange();
      last = null;
    });
  }
  queueMicrotask(clear);
  return {
    canvas,
    element: h(
      "div",
      { class: "paper-area" },
      canvas,
      h(
        "div",
        { class: "paper-tools" },
        choice("Pen", [[12, "Thin"], [22, "Medium"], [34, "Thick"]], pen, (size) => (pen = size)),
        h("button", { type: "button", class: "small", onclick: clear }, "Clear"),
      ),
    ),
  };
}
