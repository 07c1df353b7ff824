// One model: its versions, a form to ask it, what happened to it.

import { eventList } from "./events_page.js";
import { h, renderIfChanged } from "./dom.js";
import { live, processesOf, subscribe } from "./live.js";
import { requestForm } from "./request_form.js";
import { rolloutView } from "./rollout.js";
import { modelState, shownVersions, stateChip } from "./states.js";
import { clock, duration, plural } from "./text.js";

export function modelPage(name) {
  const head = h("div", { class: "model-head" });
  const versions = h("div", {});
  const history = h("div", {});
  const content = h("div", {});
  const form = requestForm(name);
  const rollout = rolloutView(name);
  content.append(
    head,
    h("section", { class: "card", "aria-labelledby": "versions-title" }, h("h2", { id: "versions-title" }, "Versions"), versions),
    rollout.element,
    h("section", { class: "card", "aria-labelledby": "ask-title" }, h("h2", { id: "ask-title" }, "Ask the model"), form.element),
    h("section", { class: "card", "aria-labelledby": "history-title" }, h("h2", { id: "history-title" }, "History"), history),
  );
  const missing = h("div", { class: "card empty", hidden: true }, h("h1", {}, name), `There is no model of this name. It may have been taken out of the config. `, h("a", { href: "#/" }, "All models"));

  function update() {
    const model = live.models.find((one) => one.name === name);
    missing.hidden = Boolean(model) || !live.server;
    content.hidden = !model;
    if (!model) return;
    const { kind, word } = modelState(model);
    const loads = loadsText(model);
    renderIfChanged(head, [word, model.base_path, model.policy, model.platform, loads], () => [
      h("p", { class: "crumbs" }, h("a", { href: "#/" }, "Models")),
      h("h1", {}, name, " ", h("span", { class: `chip ${kind}` }, word)),
      h("p", { class: "lead" }, h("code", {}, model.base_path), ` · ${model.policy}${model.platform === "tensorflow" ? "" : ` · ${model.platform}`}${loads && ` · ${loads}`}`),
    ]);
    renderIfChanged(versions, [model.versions, model.labels, model.default, processesOf(model)], () => versionsTable(model));
    rollout.update(model);
    const events = live.events.filter((event) => event.model === name).slice(-50);
    renderIfChanged(history, events, () => eventList(events, { model: false }));
    void form.update();
  }

  return { title: name, element: [missing, content], stop: subscribe(update) };
}

function versionsTable(model) {
  if (!model.versions.length) {
    return h("p", { class: "empty" }, "No version has been found yet: the server waits for a folder ", h("code", {}, `${model.base_path}/NUMBER`), ".");
  }
  const labels = (version) => Object.entries(model.labels).filter(([, target]) => target === version).map(([label]) => label);
  const shown = shownVersions(model);
  const processes = Object.fromEntries(processesOf(model));
  return [
    h(
      "div",
      { class: "rows", role: "table", "aria-label": "Versions" },
      h(
        "div",
        { class: "row head", role: "row" },
        ["Version", "State", "Since", "Engine"].map((title) => h("span", { role: "columnheader" }, title)),
      ),
      shown.map((one) =>
        h(
          "div",
          { class: "row", role: "row" },
          h("span", { role: "cell" }, h("strong", {}, one.version), one.version === model.default ? h("span", { class: "tag" }, "default") : null, labels(one.version).map((label) => h("span", { class: "tag label" }, label))),
          h("span", { role: "cell" }, stateChip(one.state, Boolean(one.error), one.dormant)),
          h("span", { role: "cell" }, clock(one.since), one.state === "AVAILABLE" ? loadTime(model.name, one) : null),
          h("span", { role: "cell", class: one.error || one.engines || processes[one.version] ? false : "none" }, one.error ? h("span", { class: "problem-text" }, one.error.message) : [enginesText(one.engines, processes[one.version]), processText(processes[one.version])]),
        ),
      ),
    ),
    model.versions.length > shown.length ? h("p", { class: "hint" }, `${model.versions.length - shown.length} older versions have ended.`) : null,
  ];
}

function loadTime(name, version) {
  const began = live.events.findLast((event) => event.model === name && event.version === version.version && event.state === "LOADING" && event.when <= version.since);
  return began ? h("span", { class: "muted" }, ` loaded in ${duration(version.since - began.when)}`) : null;
}

// How the model comes into memory, where that is not simply at the start.
function loadsText(model) {
  const { lazy_loads, evictions } = live.samples.at(-1)?.metrics ?? {};
  const loads = lazy_loads?.[model.name];
  const evicted = evictions?.[model.name];
  return [
    model.lazy && "loaded when a request needs it",
    model.pinned && "pinned in memory",
    loads && `${plural(loads, "load")} for requests`,
    evicted && `evicted ${evicted === 1 ? "once" : `${evicted} times`}`,
  ].filter(Boolean).join(", ");
}

// A version in a process of its own, or, with workers, in one for each of them.
function processText(process) {
  if (!process) return null;
  const { up, restarts } = process;
  return [
    h("span", { class: up ? "tag" : "chip bad" }, !up ? "Process down" : up === 1 ? "own process" : `${up} processes of its own`),
    restarts ? h("span", { class: "tag" }, plural(restarts, "restart")) : null,
  ];
}

// Which engine serves which signature, and why others do not.
function enginesText(engines, process) {
  if (!engines) return process ? null : h("span", { class: "muted" }, "–");
  const others = Object.entries(engines).flatMap(([signature, report]) => Object.entries(report.others).map(([engine, why]) => `${signature}, ${engine}: ${why}`));
  const text = [...new Set(Object.values(engines).map((report) => report.engine))].join(", ");
  if (!others.length) return text;
  return h("details", { class: "inline" }, h("summary", {}, text), h("ul", {}, others.map((line) => h("li", {}, line))));
}
