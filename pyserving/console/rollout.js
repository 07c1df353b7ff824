// Where a model's requests go, what its new versions had to pass, and what an administrator may move.

import { h, renderIfChanged } from "./dom.js";
import { askNow, live } from "./live.js";
import { ServerError, send } from "./server.js";
import { duration, percent, plural } from "./text.js";

const OUTCOMES = { running: ["busy", "Running"], passed: ["ok", "Passed"], refused: ["bad", "Refused"] };
const CHECKS = { answers: "Golden requests", latency: "Latency", shadow: "Live requests" };

export function rolloutView(name) {
  const facts = h("div", {});
  const outcome = h("div", { role: "status", hidden: true });
  const element = h("section", { class: "card", "aria-labelledby": "rollout-title" }, h("h2", { id: "rollout-title" }, "Traffic"), outcome, facts);

  // After a move `outcome` says what came of it.
  function ask(action, version) {
    confirmed(questionOf(name, action, version), action === "promote" ? "Promote" : "Roll back", async () => {
      try {
        const body = version === null ? {} : { version };
        const { data } = await send(`/v1/models/${encodeURIComponent(name)}:${action}`, { method: "POST", body: JSON.stringify(body) });
        tell("notice", [`Requests go to version ${data.version}; before to ${data.previous_version === "0" ? "none" : `version ${data.previous_version}`}.`]);
      } catch (error) {
        if (!(error instanceof ServerError)) throw error;
        tell("problem", [h("strong", {}, error.title), h("span", {}, error.message)]);
      }
      askNow();
    });
  }

  function tell(kind, children) {
    outcome.hidden = false;
    outcome.className = kind;
    outcome.replaceChildren(...children);
  }

  function update(model) {
    const { admin } = live.server;
    renderIfChanged(facts, [model.default, model.held, model.manual, model.rollout, model.traffic, model.versions.map((one) => [one.version, one.state]), admin], () => [
      defaultVersion(model, admin, ask),
      model.traffic.shares.length ? shares(model.traffic) : null,
      model.rollout.shadow ? shadow(model.rollout.shadow, model.traffic.copied) : null,
      gate(model),
    ]);
  }

  return { element, update };
}

function questionOf(name, action, version) {
  const before = `Requests to ${name} that name neither version nor label will go to`;
  return action === "promote" ? `${before} version ${version}.` : `${before} the version that got them before. It is loaded first where it is not, and stays until a version is promoted.`;
}

// Asks before it does something that clients notice.
function confirmed(question, word, act) {
  const dialog = h(
    "dialog",
    { "aria-labelledby": "confirm-title", onclose: () => dialog.remove() },
    h(
      "form",
      { method: "dialog", onsubmit: () => void act() },
      h("h2", { id: "confirm-title" }, `${word}?`),
      h("p", {}, question),
      h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, word), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function defaultVersion(model, admin, ask) {
  const available = model.versions.filter((one) => one.state === "AVAILABLE").map((one) => one.version);
  const waiting = available.filter((version) => model.default !== null && version > model.default);
  const others = available.filter((version) => version !== model.default && !waiting.includes(version));
  const text = model.default === null
    ? "No version answers requests that name none."
    : [
        "Requests that name neither version nor label go to ", h("strong", {}, `version ${model.default}`),
        model.manual ? ": a newer one gets them when it is promoted." : model.held ? ", which is kept as the default one." : ", the highest that is available.",
      ];
  // What it could go back to may lie in the folder without being listed: an older version.
  const back = model.versions.length > 1 || model.default > 1;
  const promote = (version) => h("button", { type: "button", class: "small", onclick: () => ask("promote", version) }, `Promote version ${version}`);
  return [
    h("p", {}, text),
    model.manual && waiting.length ? h("p", { class: "hint" }, `${plural(waiting.length, "newer version")} ${waiting.length === 1 ? "waits" : "wait"} to be promoted: ${waiting.join(", ")}.`) : null,
    admin && back && model.default !== null
      ? h("p", { class: "buttons" }, [...waiting, ...others].map(promote), h("button", { type: "button", class: "small", onclick: () => ask("rollback", null) }, "Roll back"))
      : null,
  ];
}

function shares({ shares: listed, key_header }) {
  return [
    h("h3", { class: "part" }, "Split"),
    h(
      "ul",
      { class: "shares" },
      listed.map(({ target, version, share }) =>
        h(
          "li",
          {},
          h("span", {}, target, version === null || target === `version ${version}` ? null : h("span", { class: "muted" }, ` (version ${version})`)),
          h("meter", { min: 0, max: 1, value: share, "aria-label": `Share of ${target}` }),
          h("strong", {}, percent(share)),
        ),
      ),
    ),
    h("p", { class: "hint" }, "Requests with the same ", h("code", {}, key_header), " always go the same way."),
  ];
}

function shadow(report, fraction) {
  const { p50, p99 } = report.latency_ms;
  const counts = [["agreed", report.agreed], ["differed", report.differed], ["failed", report.failed], ["dropped", report.dropped]];
  return [
    h("h3", { class: "part" }, "Shadow"),
    h("p", {}, `${percent(fraction)} of requests are copied to ${report.target}, and the answers compared.`),
    h("p", { class: "counts" }, counts.map(([word, count]) => h("span", { class: count && (word === "differed" || word === "failed") ? "problem-text" : false }, h("strong", {}, count), ` ${word}`)), p50 === undefined ? null : h("span", {}, `p50 ${duration(p50 / 1000)}, p99 ${duration(p99 / 1000)}`)),
    report.examples.length
      ? h("details", { class: "inline" }, h("summary", {}, "The first that did not agree"), h("ul", {}, report.examples.map((one) => h("li", {}, `${one.request}: ${one.differences.join("; ")}`))))
      : null,
  ];
}

function gate(model) {
  const reports = Object.entries(model.rollout.gate ?? {}).sort(([a], [b]) => b - a);
  if (!reports.length) return null;
  return [
    h("h3", { class: "part" }, "Checks of new versions"),
    h(
      "ul",
      { class: "checks" },
      reports.map(([version, checks]) =>
        h(
          "li",
          {},
          h("strong", {}, `Version ${version}`),
          h("ul", {}, checks.map(({ check, outcome, text }) => {
            const [kind, word] = OUTCOMES[outcome];
            return h("li", {}, h("span", { class: `chip ${kind}` }, word), h("span", {}, CHECKS[check]), h("span", { class: outcome === "refused" ? "problem-text" : "muted" }, text));
          })),
        ),
      ),
    ),
  ];
}
