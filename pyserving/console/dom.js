// Elements made by calls. Nothing here takes HTML: what comes from a server is text, and stays text.

export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

export function s(tag, properties, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || name === "checked" || name === "selected") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Renders into `container` only where `data` is not what it was: what a person has selected or opened stays as it is.
const rendered = new WeakMap();
export function renderIfChanged(container, data, render) {
  const key = JSON.stringify(data);
  if (rendered.get(container) === key) return;
  rendered.set(container, key);
  container.replaceChildren(...[render()].flat(Infinity).filter(Boolean));
}

let lastId = 0;
export function newId(prefix) {
  lastId += 1;
  return `${prefix}-${lastId}`;
}

// A label above a control; `hint` stands below it. A `quiet` label is read out, not shown: something near says the same.
export function labelled(text, control, hint, { quiet = false } = {}) {
  control.id ||= newId("control");
  const about = hint ? h("p", { class: "hint", id: `${control.id}-hint` }, hint) : null;
  if (about) control.setAttribute("aria-describedby", about.id);
  return h("div", { class: "labelled" }, h("label", { for: control.id, class: quiet && "offscreen" }, text), control, about);
}

export function select(options, value, onchange) {
  const made = h(
    "select",
    { onchange: () => onchange?.(made.value) },
    options.map(([key, text]) => h("option", { value: key, selected: String(key) === String(value) }, text)),
  );
  return made;
}

// Buttons of which one is pressed: a choice among few.
export function choice(label, options, value, onchange) {
  const buttons = options.map(([key, text]) =>
    h("button", { type: "button", "aria-pressed": String(key === value), onclick: () => choose(key) }, text),
  );
  function choose(key) {
    options.forEach(([other], i) => buttons[i].setAttribute("aria-pressed", String(other === key)));
    onchange(key);
  }
  return h("div", { class: "choice", role: "group", "aria-label": label }, buttons);
}

export function copyButton(text, label = "Copy") {
  const button = h("button", {
    type: "button",
    class: "small",
    onclick: async () => {
      button.textContent = (await copied(text())) ? "Copied" : "Could not copy";
      setTimeout(() => (button.textContent = label), 1500);
    },
  }, label);
  return button;
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // Without TLS, and not on this machine, a browser has no clipboard for pages but this old way.
    const area = h("textarea", { class: "offscreen", value: text });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

export function download(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
