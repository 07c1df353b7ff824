// What happened to models and versions.

import { h, labelled, renderIfChanged, select } from "./dom.js";
import { live, subscribe } from "./live.js";
import { stateChip } from "./states.js";
import { clock, duration } from "./text.js";

const MOST = 300;

export function eventsPage() {
  const list = h("div", {});
  const filter = { model: "", errors: false };
  const choices = h("div", { class: "options" });

  function update() {
    const names = [...new Set([...live.models.map((model) => model.name), ...live.events.map((event) => event.model)])].sort();
    renderIfChanged(choices, names, () => [
      labelled("Model", select([["", "All models"], ...names.map((name) => [name, name])], filter.model, (name) => {
        filter.model = name;
        update();
      })),
      labelled("Show", select([["", "Everything"], ["errors", "Errors only"]], filter.errors ? "errors" : "", (chosen) => {
        filter.errors = Boolean(chosen);
        update();
      })),
    ]);
    const events = live.events.filter((event) => (!filter.model || event.model === filter.model) && (!filter.errors || isError(event))).slice(-MOST);
    renderIfChanged(list, events, () => eventList(events, { model: true }));
  }

  return {
    title: "Events",
    element: [h("h1", {}, "Events"), h("p", { class: "lead" }, "Loads, unloads and changes of the config, the latest first."), choices, h("div", { class: "card" }, list)],
    stop: subscribe(update),
  };
}

const isError = (event) => event.state === "END" && Boolean(event.text);

export function eventList(events, { model }) {
  if (!events.length) return h("p", { class: "empty" }, "Nothing has happened yet.");
  return h(
    "ol",
    { class: "events" },
    [...events].reverse().map((event) =>
      h(
        "li",
        {},
        h("time", { class: "muted", datetime: new Date(event.when * 1000).toISOString() }, clock(event.when)),
        h(
          "span",
          { class: "event-what" },
          event.state ? stateChip(event.state, isError(event)) : h("span", { class: "chip quiet" }, "Config"),
          model ? h("a", { href: `#/model/${encodeURIComponent(event.model)}` }, event.model) : null,
          event.version === null ? null : h("span", {}, `version ${event.version}`),
          took(event),
          event.text && !isError(event) ? h("span", {}, event.text) : null,
        ),
        isError(event) ? h("span", { class: "problem-text" }, event.text) : null,
      ),
    ),
  );
}

// How long a version loaded or unloaded, where its beginning is known.
function took(event) {
  const began = { AVAILABLE: "LOADING", END: "UNLOADING" }[event.state];
  if (!began || event.text) return null;
  const start = live.events.findLast((one) => one.model === event.model && one.version === event.version && one.state === began && one.when <= event.when);
  return start ? h("span", { class: "muted" }, `in ${duration(event.when - start.when)}`) : null;
}
