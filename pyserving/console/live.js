// What the server is like now, asked for again and again while somebody looks at the page.

import { send } from "./server.js";

const WAIT = 1000;
const MOST_SAMPLES = 600;
const MOST_EVENTS = 1000;

export const live = {
  // "connecting", "live", "gone" (no answer), "refused" (401 or 403)
  connection: "connecting",
  error: null,
  server: null,
  models: [],
  events: [],
  samples: [], // {when, metrics}, the latest last
};

const listeners = new Set();

// Calls `listener` after each answer, and now if there was one. Returns what ends that.
export function subscribe(listener) {
  listeners.add(listener);
  if (live.server || live.error) listener();
  return () => listeners.delete(listener);
}

// Of a model's versions that have processes of their own: [[version, {up, restarts}], ...].
export function processesOf(model) {
  return Object.entries(live.samples.at(-1)?.metrics.processes[model.name] ?? {});
}

let timer = 0;
let asking = null;

export function start() {
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : askNow()));
  askNow();
}

// As soon as can be, as after a new API key.
export function askNow() {
  clearTimeout(timer);
  asking?.abort();
  void ask();
}

async function ask() {
  const controller = new AbortController();
  asking = controller;
  const giveUp = setTimeout(() => controller.abort("late"), 10_000);
  const last = live.events.at(-1)?.when ?? 0;
  let seconds = 0;
  try {
    const answer = await send(`/console/api/live?after=${last}`, { signal: controller.signal });
    seconds = answer.seconds;
    take(answer.data);
  } catch (error) {
    if (asking !== controller) return; // somebody asks anew
    live.connection = error.status === 401 || error.status === 403 ? "refused" : "gone";
    live.error = error;
  } finally {
    clearTimeout(giveUp);
  }
  if (asking !== controller) return;
  asking = null;
  for (const listener of listeners) listener();
  // A server that takes long for it is asked less often.
  if (!document.hidden) timer = setTimeout(ask, Math.max(WAIT, seconds * 20_000));
}

function take({ server, models, metrics, events }) {
  const before = live.samples.at(-1)?.metrics;
  if (before && Math.abs(before.start - metrics.start) > 0.001) {
    live.samples = []; // another process: its counts begin at 0
    live.events = [];
  }
  live.connection = "live";
  live.error = null;
  live.server = server;
  live.models = models;
  live.samples.push({ when: server.now, metrics });
  if (live.samples.length > MOST_SAMPLES) live.samples.shift();
  // Workers note changes of the config each by its own clock, and any of them may answer.
  const fresh = events.filter((event) => !live.events.some((known) => sameEvent(known, event)));
  if (fresh.length) live.events = [...live.events, ...fresh].sort((a, b) => a.when - b.when).slice(-MOST_EVENTS);
}

function sameEvent(a, b) {
  return (
    a.model === b.model && a.version === b.version && a.state === b.state && a.text === b.text &&
    Math.abs(a.when - b.when) < 0.5
  );
}
