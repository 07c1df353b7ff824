// States of versions, and the marks that stand for them.

import { h } from "./dom.js";

const KIND = { START: "quiet", LOADING: "busy", AVAILABLE: "ok", UNLOADING: "busy", END: "quiet" };
const WORD = { START: "Waiting", LOADING: "Loading", AVAILABLE: "Available", UNLOADING: "Unloading", END: "Ended" };

export function stateChip(state, failed, dormant = false) {
  return h("span", { class: `chip ${failed ? "bad" : KIND[state]}` }, failed ? "Failed" : dormant ? "Asleep" : WORD[state]);
}

// It is loaded when a request needs it.
export const isAsleep = (model) => model.versions.some((one) => one.dormant) && !model.versions.some((one) => one.state === "AVAILABLE" || one.state === "LOADING");

// Of a whole model: {kind, word}.
export function modelState(model) {
  if (model.versions.some((one) => one.state === "AVAILABLE")) {
    return model.versions.some((one) => one.state === "LOADING") ? { kind: "ok", word: "Ready, loading" } : { kind: "ok", word: "Ready" };
  }
  if (isAsleep(model)) return { kind: "quiet", word: "Asleep" };
  if (model.versions.some((one) => one.state === "LOADING" || one.state === "START")) return { kind: "busy", word: "Loading" };
  if (model.versions.some((one) => one.error)) return { kind: "bad", word: "Failed" };
  return { kind: "bad", word: "No version" };
}

// Those that a person cares about: what is there, what comes, and what failed; of the rest the last few.
export function shownVersions(model, all = false) {
  const ended = model.versions.filter((one) => one.state === "END" && !one.error);
  const others = model.versions.filter((one) => one.state !== "END" || one.error);
  return [...others, ...(all ? ended : ended.slice(0, 3))].sort((a, b) => b.version - a.version);
}
