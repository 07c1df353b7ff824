// The config of all models, to be changed by those who may.

import { h, labelled } from "./dom.js";
import { live, subscribe } from "./live.js";
import { ServerError, send } from "./server.js";

export function configPage() {
  const area = h("textarea", { class: "code", rows: 20, spellcheck: "false" });
  const outcome = h("div", { role: "alert", hidden: true });
  const apply = h("button", { type: "submit", class: "primary" }, "Apply");
  const form = h(
    "form",
    {
      class: "card",
      onsubmit: (event) => {
        event.preventDefault();
        void change(send("/console/api/config", { method: "POST", body: JSON.stringify({ config: area.value }) }), "Applied.");
      },
    },
    labelled("ModelServerConfig, in text format", area, "As in models.config: what is not in it is unloaded. Nothing is written to a file."),
    outcome,
    h("p", { class: "buttons" }, apply, h("button", { type: "button", onclick: () => void change(send("/console/api/config"), "") }, "Read again")),
  );
  const refused = h("p", { class: "card empty", hidden: true }, "The config can be changed here where the server listens on 127.0.0.1 alone, or with an API key of the role admin.");

  async function change(answer, words) {
    apply.setAttribute("aria-busy", "true");
    try {
      const { data } = await answer;
      area.value = data.config;
      outcome.hidden = !words;
      outcome.className = "notice";
      outcome.textContent = words;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      outcome.hidden = false;
      outcome.className = "problem";
      outcome.replaceChildren(h("strong", {}, error.title), h("span", {}, error.message));
    } finally {
      apply.removeAttribute("aria-busy");
    }
  }

  let read = false;
  function update() {
    if (!live.server) return;
    form.hidden = !live.server.admin;
    refused.hidden = live.server.admin;
    if (live.server.admin && !read) {
      read = true;
      void change(send("/console/api/config"), "");
    }
  }

  return { title: "Config", element: [h("h1", {}, "Config"), form, refused], stop: subscribe(update) };
}
