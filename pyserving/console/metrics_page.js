// How the server does now, and did in the last minutes.

import { lineChart } from "./charts.js";
import { h, labelled, renderIfChanged, select } from "./dom.js";
import * as figures from "./figures.js";
import { live, subscribe } from "./live.js";
import { bytes, duration, number, rate } from "./text.js";

const SHARES = [0.5, 0.95, 0.99];

export function metricsPage() {
  let name = "";
  const choices = h("div", { class: "options" });
  const tiles = h("dl", { class: "tiles" });
  const charts = {
    rate: lineChart("Requests per second", rate, "Over 3 s."),
    latency: lineChart("Latency", duration, "Of answers, over 10 s; estimated from the histogram."),
    batches: lineChart("Requests in one run", (value) => number(value, 1), "Only where requests may wait for others: runs on threads. All models together."),
    memory: lineChart("Memory", bytes, "Of all processes of the server."),
  };
  const note = h("p", { class: "hint" });

  function update() {
    const { samples } = live;
    const end = samples.length - 1;
    if (end < 0) return;
    renderIfChanged(choices, live.models.map((model) => model.name), () =>
      labelled("Model", select([["", "All models"], ...live.models.map((model) => [model.name, model.name])], name, (chosen) => {
        name = chosen;
        update();
      })),
    );
    const now = samples[end].when;
    const metrics = samples[end].metrics;
    const line = (title, kind, take) => ({ name: title, kind, points: samples.map((sample, i) => [sample.when, take(i)]) });
    charts.rate.update([line("answered", "first", (i) => figures.okRate(samples, i, name)), line("failed", "bad", (i) => figures.errorRate(samples, i, name))], now);
    const percentiles = samples.map((_, i) => figures.latency(samples, i, name, SHARES));
    charts.latency.update(["first", "second", "third"].map((kind, which) => line(`p${SHARES[which] * 100}`, kind, (i) => percentiles[i][which])), now);
    charts.batches.update([line("average", "first", (i) => figures.batchSize(samples, i))], now);
    charts.memory.update([line("resident", "first", (i) => samples[i].metrics.memory_bytes || null)], now);
    const inFlight = Object.entries(metrics.in_flight).reduce((sum, [model, count]) => sum + (name && model !== name ? 0 : count), 0);
    tiles.replaceChildren(
      ...tile("Requests", `${rate(figures.okRate(samples, end, name) ?? 0)}/s`),
      ...tile("p99", percentiles[end][2] === null ? "–" : duration(percentiles[end][2])),
      ...tile("In flight", inFlight),
      ...tile("CPU", `${(figures.cpu(samples, end) ?? 0).toFixed(2)} cores`),
      ...tile("Memory", bytes(metrics.memory_bytes)),
      ...(metrics.model_memory_limit_bytes ? tile("Models' memory", `${bytes(metrics.model_memory_bytes)} of ${bytes(metrics.model_memory_limit_bytes)}`) : []),
      ...tile("Connections", metrics.connections),
      ...tile("Up for", duration(now - metrics.start)),
      ...(metrics.workers ? tile("Workers", `${metrics.workers}${metrics.worker_restarts ? `, ${metrics.worker_restarts} restarted` : ""}`) : []),
    );
    renderIfChanged(note, live.server.metrics_path, () => [
      "Drawn since this page was opened. ",
      live.server.metrics_path ? h("a", { href: live.server.metrics_path }, "All metrics, for Prometheus") : "",
    ]);
  }

  function tile(title, value) {
    return [h("div", { class: "card tile" }, h("dt", {}, title), h("dd", {}, value))];
  }

  return {
    title: "Metrics",
    element: [h("div", { class: "metrics-head" }, h("h1", {}, "Metrics"), choices), tiles, h("div", { class: "charts" }, Object.values(charts).map((chart) => chart.element)), note],
    stop: subscribe(update),
  };
}
