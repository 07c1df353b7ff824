// Which page is shown, and what stands above all of them.

import { apiPage } from "./api_page.js";
import { configPage } from "./config_page.js";
import { h, labelled, renderIfChanged, s } from "./dom.js";
import { eventsPage } from "./events_page.js";
import { askNow, live, start, subscribe } from "./live.js";
import { metricsPage } from "./metrics_page.js";
import { modelPage } from "./model_page.js";
import { modelsPage } from "./models_page.js";
import { apiKey, setApiKey } from "./server.js";

const PAGES = { "": modelsPage, metrics: metricsPage, events: eventsPage, api: apiPage, config: configPage };
const TABS = [["", "Models"], ["metrics", "Metrics"], ["events", "Events"], ["api", "API"], ["config", "Config"]];

const main = document.getElementById("main");
let page = null;

function show() {
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  page?.stop();
  page = name === "model" ? modelPage(decoded(rest.join("/"))) : (PAGES[name] ?? modelsPage)();
  document.title = `${page.title} · PyServing`;
  main.replaceChildren(...[page.element].flat());
  showTabs();
  window.scrollTo(0, 0);
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function showTabs() {
  const [name] = location.hash.replace(/^#\/?/, "").split("/");
  const current = name === "model" ? "" : name;
  const shown = TABS.filter(([key]) => key !== "config" || live.server?.admin || current === "config");
  renderIfChanged(document.getElementById("tabs"), [current, shown], () =>
    shown.map(([key, text]) => h("a", { href: `#/${key}`, "aria-current": key === current ? "page" : false }, text)),
  );
}

const CONNECTION = { connecting: ["busy", "Connecting"], live: ["ok", "Live"], gone: ["bad", "Not reachable"], refused: ["bad", "Not allowed"] };

function showConnection() {
  const draining = live.connection === "live" && live.server.draining;
  const [kind, text] = draining ? ["busy", "Stopping"] : CONNECTION[live.connection];
  renderIfChanged(document.getElementById("status"), [kind, text], () => [h("span", { class: `dot ${kind}` }), h("span", { class: "status-text" }, text)]);
  const banner = document.getElementById("banner");
  banner.hidden = live.connection === "live" || live.connection === "connecting";
  main.classList.toggle("stale", live.connection === "gone");
  if (!banner.hidden) {
    renderIfChanged(banner, [live.connection, live.error?.status], () => [
      h("strong", {}, live.error.title),
      h("span", {}, live.error.message),
      live.connection === "refused" ? h("button", { type: "button", class: "small", onclick: askForKey }, "Set the API key") : null,
    ]);
  }
  showTabs();
}

function askForKey() {
  const box = h("input", { type: "password", autocomplete: "off", spellcheck: "false", value: apiKey() });
  const dialog = h(
    "dialog",
    { "aria-labelledby": "key-title", onclose: () => dialog.remove() },
    h(
      "form",
      {
        method: "dialog",
        onsubmit: () => {
          setApiKey(box.value.trim());
          showKey();
          askNow();
          show();
        },
      },
      h("h2", { id: "key-title" }, "API key"),
      labelled("Key", box, "Sent with each request to this server, and forgotten when this tab is closed."),
      h("p", { class: "buttons" }, h("button", { type: "submit", class: "primary" }, "Use it"), h("button", { type: "button", onclick: () => dialog.close() }, "Cancel")),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
}

const icon = (...paths) => s("svg", { viewBox: "0 0 24 24", width: 20, height: 20, "aria-hidden": "true" }, paths.map((d) => s("path", { d })));

function showKey() {
  const button = document.getElementById("key");
  button.replaceChildren(icon("M8 11.500a3.750 3.750 0 1 0 0 7.500 3.750 3.750 0 0 0 0-7.500z", "M10.700 12.600 19 4.300M15.500 7.800l3 3M13 10.300l2 2"));
  button.classList.toggle("on", Boolean(apiKey()));
  button.title = apiKey() ? "API key: set" : "API key: none";
}

const THEMES = ["auto", "light", "dark"];
const THEME_ICONS = {
  auto: icon("M12 3a9 9 0 1 0 0 18z", "M12 3a9 9 0 0 1 0 18"),
  light: icon("M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2.500v2M12 19.500v2M2.500 12h2M19.500 12h2M5.300 5.300l1.400 1.400M17.300 17.300l1.400 1.400M5.300 18.700l1.400-1.400M17.300 6.700l1.400-1.400"),
  dark: icon("M20 14.500A8.500 8.500 0 0 1 9.500 4a8.500 8.500 0 1 0 10.500 10.500z"),
};

function showTheme(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.replaceChildren(THEME_ICONS[theme]);
  button.setAttribute("aria-label", `Colours: ${theme}`);
  button.title = `Colours: ${theme}`;
}

const theme = () => localStorage.getItem("pyserving-theme") ?? "auto";
document.getElementById("theme").addEventListener("click", () => {
  localStorage.setItem("pyserving-theme", THEMES[(THEMES.indexOf(theme()) + 1) % THEMES.length]);
  showTheme(theme());
});
document.getElementById("key").addEventListener("click", askForKey);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
// A file that misses its place must not take the page away.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());

showTheme(theme());
showKey();
window.addEventListener("hashchange", show);
show();
subscribe(showConnection);
start();
