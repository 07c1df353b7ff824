// All models at a glance.

import { sparkline } from "./charts.js";
import { h, renderIfChanged } from "./dom.js";
import { latency, okRate } from "./figures.js";
import { live, processesOf, subscribe } from "./live.js";
import { isAsleep, modelState, shownVersions } from "./states.js";
import { duration, plural, rate } from "./text.js";

export function modelsPage() {
  const summary = h("p", { class: "lead" });
  const list = h("ul", { class: "models" });
  const places = new Map();

  function update() {
    const ready = live.models.filter((model) => modelState(model).word.startsWith("Ready")).length;
    const asleep = live.models.filter(isAsleep).length;
    summary.textContent = !live.models.length
      ? "No model is configured."
      : ready === live.models.length ? `${plural(ready, "model")}, all ready` : `${ready} of ${plural(live.models.length, "model")} ready${asleep ? `, ${asleep} asleep until a request needs ${asleep === 1 ? "it" : "them"}` : ""}`;
    renderIfChanged(list, live.models.map((model) => model.name), () => live.models.map(newRow));
    for (const model of live.models) fillRow(model);
  }

  function newRow(model) {
    const facts = h("div", { class: "model-facts" });
    const traffic = h("div", { class: "model-traffic" });
    places.set(model.name, { facts, traffic });
    return h(
      "li",
      { class: "card model" },
      h("a", { class: "model-name", href: `#/model/${encodeURIComponent(model.name)}` }, model.name),
      facts,
      traffic,
    );
  }

  function fillRow(model) {
    const { facts, traffic } = places.get(model.name);
    const { kind, word } = modelState(model);
    renderIfChanged(facts, [model.versions, model.labels, model.default, model.manual, model.pinned, model.traffic, processesOf(model), word], () => [
      h("span", { class: `chip ${kind}` }, word),
      shownVersions(model)
        .filter((one) => one.state !== "END" || one.error)
        .map((one) => h("span", { class: "tag" }, `v${one.version}${one.error ? " failed" : one.state === "AVAILABLE" ? (waits(model, one) ? " waits" : "") : one.dormant ? "" : ` ${one.state.toLowerCase()}`}`)),
      Object.entries(model.labels).map(([label, version]) => h("span", { class: "tag label" }, `${label} → ${version}`)),
      model.traffic.shares.length > 1 ? h("span", { class: "tag" }, "split") : null,
      model.pinned ? h("span", { class: "tag" }, "pinned") : null,
      processesOf(model).some(([, { up }]) => !up) ? h("span", { class: "chip bad" }, "Process down") : null,
      model.versions.find((one) => one.error && one.state === "END" && modelState(model).word === "Failed")
        ? h("p", { class: "problem-text" }, model.versions.find((one) => one.error).error.message)
        : null,
    ]);
    const end = live.samples.length - 1;
    if (end < 0) return;
    const [p50, p99] = latency(live.samples, end, model.name, [0.5, 0.99]);
    const rates = live.samples.map((_, i) => (i < live.samples.length - 60 ? null : okRate(live.samples, i, model.name)));
    traffic.replaceChildren(
      sparkline(rates, `Requests of the last minute to ${model.name}`),
      figure(rate(rates.at(-1) ?? 0), "req/s"),
      figure(p50 === null ? "–" : duration(p50), "p50"),
      figure(p99 === null ? "–" : duration(p99), "p99"),
    );
  }

  const waits = (model, one) => model.manual && model.default !== null && one.version > model.default;

  function figure(value, name) {
    return h("span", { class: "figure" }, h("strong", {}, value), h("span", { class: "muted" }, name));
  }

  return {
    title: "Models",
    element: [h("h1", {}, "Models"), summary, list],
    stop: subscribe(update),
  };
}
