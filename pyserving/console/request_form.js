// Asks a model: choose version, signature and method, fill in the inputs, see the answer.

import { answerView } from "./answer.js";
import { classNames, classNamesEditor } from "./class_names.js";
import { choice, h, labelled, select } from "./dom.js";
import { checkedJson, newField } from "./fields.js";
import { InputError, imageLayout } from "./images.js";
import { askNow, live } from "./live.js";
import { ServerError, send } from "./server.js";
import { snippetsView } from "./snippets.js";
import { isAsleep } from "./states.js";
import { shapeText } from "./text.js";

const METHODS = { "tensorflow/serving/classify": "classify", "tensorflow/serving/regress": "regress" };

export function requestForm(name) {
  const state = { place: "", signatures: [], version: null, signature: null, verb: "predict", manner: "form" };
  let fields = null;
  let lastAnswer = null;
  let known = "";
  let asked = 0;
  let sending = null;

  const notice = h("div", { class: "notice", role: "status", hidden: true });
  const choices = h("div", { class: "options" });
  const body = h("div", { class: "form-body" });
  const problem = h("div", { class: "problem", role: "alert", hidden: true });
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const snippets = h("div", {});
  const sendButton = h("button", { type: "submit", class: "primary" }, "Send");
  const names = classNamesEditor(name, () => lastAnswer && showAnswer());
  const form = h(
    "form",
    {
      novalidate: true,
      onsubmit: (event) => {
        event.preventDefault();
        void submit();
      },
    },
    choices,
    body,
    problem,
    h("p", { class: "buttons" }, sendButton),
  );
  showEmpty();

  function showEmpty() {
    answer.replaceChildren(h("p", { class: "empty" }, "The answer appears here."));
  }

  const model = () => live.models.find((one) => one.name === name);
  const available = () => model()?.versions.filter((one) => one.state === "AVAILABLE") ?? [];

  function path() {
    const base = `/v1/models/${encodeURIComponent(name)}`;
    const [kind, which] = split(state.place);
    return `${base}${kind ? `/${kind}s/${encodeURIComponent(which)}` : ""}:${state.verb}`;
  }

  // Called with each look at the server: versions come and go.
  async function update() {
    const places = ["", ...Object.keys(model()?.labels ?? {}).map((label) => `label ${label}`), ...available().map((one) => `version ${one.version}`)];
    const current = currentVersion();
    const asleep = Boolean(model()) && isAsleep(model());
    const key = JSON.stringify([places, current, asleep]);
    if (key === known) return;
    known = key;
    showChoices(places);
    if (current === null && asleep) {
      tell("This model is asleep: it is loaded when a request needs it.", ["Load it now", () => void wake()]);
      return;
    }
    if (current === null) {
      const [kind, which] = split(state.place);
      tell(
        kind ? `${kind === "label" ? "Label" : "Version"} ${which} is not served any more.` : "No version of this model can answer now.",
        kind && available().length ? ["Use the default version", () => choosePlace("")] : null,
      );
      return;
    }
    await fetchSignatures(current);
  }

  // What asks for its signatures has the model loaded; what comes of it is then seen as any change is.
  async function wake() {
    tell("Loading …");
    try {
      await send(`/console/api/signatures?model=${encodeURIComponent(name)}`);
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      known = "";
      tell(error.message);
    }
    askNow();
  }

  function currentVersion() {
    const [kind, which] = split(state.place);
    if (kind === "version") return available().some((one) => String(one.version) === which) ? Number(which) : null;
    const version = kind === "label" ? model()?.labels[which] : model()?.default;
    return available().some((one) => one.version === version) ? version : null;
  }

  async function fetchSignatures(version) {
    asked += 1;
    const mine = asked;
    try {
      const { data } = await send(`/console/api/signatures?model=${encodeURIComponent(name)}&version=${version}`);
      if (mine !== asked) return;
      const signatures = data.signatures.filter((one) => !one.name.startsWith("__saved_model"));
      const same = JSON.stringify(signatures) === JSON.stringify(state.signatures);
      const before = state.version;
      state.version = version;
      state.signatures = signatures;
      if (!same) {
        const wanted = signatures.find((one) => one.name === state.signature?.name);
        state.signature = wanted ?? signatures.find((one) => one.name === "serving_default") ?? signatures.find((one) => one.inputs.length) ?? signatures[0] ?? null;
        state.verb = METHODS[state.signature?.method] ?? "predict";
        showFields();
        showChoices();
      }
      if (before === null || before === version) tell("");
      else tell(`Version ${version} answers now${same ? "" : "; its signatures differ, so the form is a new one"}.`);
    } catch (error) {
      if (mine !== asked) return;
      known = "";
      if (error instanceof ServerError && error.status === 0) return; // the page says so already
      tell(error.message);
    }
  }

  function tell(text, action) {
    notice.hidden = !text;
    notice.replaceChildren(text, action ? h("button", { type: "button", class: "small", onclick: action[1] }, action[0]) : "");
  }

  function choosePlace(place) {
    state.place = place;
    state.version = null; // who chooses need not be told
    known = "";
    void update();
  }

  let shownPlaces = [""];
  function showChoices(places = shownPlaces) {
    shownPlaces = places;
    const listed = places.includes(state.place) ? places : [...places, state.place];
    const verbs = ["predict", "classify", "regress"];
    choices.replaceChildren(
      labelled("Version", select(listed.map((place) => [place, placeText(place, places)]), state.place, choosePlace)),
      labelled(
        "Signature",
        select(state.signatures.map((one) => [one.name, one.name]), state.signature?.name, (chosen) => {
          state.signature = state.signatures.find((one) => one.name === chosen);
          state.verb = METHODS[state.signature.method] ?? "predict";
          showChoices();
          showFields();
        }),
      ),
      labelled("Method", select(verbs.map((verb) => [verb, verb]), state.verb, (verb) => {
        state.verb = verb;
        showFields();
      })),
    );
  }

  function placeText(place, places) {
    const [kind, which] = split(place);
    if (!kind) return "default";
    return `${kind} ${which}${places.includes(place) ? "" : " (gone)"}`;
  }

  function showFields() {
    const signature = state.signature;
    problem.hidden = true;
    lastAnswer = null;
    showEmpty();
    snippets.replaceChildren();
    if (!signature) {
      body.replaceChildren(h("p", { class: "empty" }, "This version has no signature."));
      sendButton.disabled = true;
      return;
    }
    sendButton.disabled = !signature.inputs.length;
    if (!signature.inputs.length) {
      fields = null;
      body.replaceChildren(h("p", { class: "empty" }, "This signature takes no input; REST cannot ask for it."));
      return;
    }
    const place = h("div", {});
    const show = (manner) => {
      state.manner = manner;
      fields = manner === "json" ? wholeBody() : state.verb === "predict" ? inputFields(signature) : exampleFields();
      place.replaceChildren(...fields.elements);
    };
    show(state.manner);
    body.replaceChildren(choice("How to fill in", [["form", "Form"], ["json", "Request as JSON"]], state.manner, show), place, outputsText(signature));
  }

  function outputsText(signature) {
    const listed = signature.outputs.map((one) => `${one.name} (${`${one.dtype} ${shapeText(one.shape)}`.trim()})`).join(", ");
    return h("p", { class: "hint" }, `Answers with ${listed}.`, signature.streams ? " This signature streams: over REST ask for application/x-ndjson." : "");
  }

  function named(members) {
    const signature = state.signature.name === "serving_default" ? [] : [`"signature_name":${JSON.stringify(state.signature.name)}`];
    return `{${[...signature, ...members].join(",")}}`;
  }

  // The inputs one by one. In row form where each has rows, else in column form.
  function inputFields(signature) {
    const rows = signature.inputs.every((input) => hasRows(input.shape));
    const made = signature.inputs.map((input) => newField(input, rows));
    return {
      elements: made.map((field) => field.element),
      async read() {
        const texts = {};
        for (const [i, input] of signature.inputs.entries()) {
          texts[input.name] = await made[i].read();
        }
        const given = Object.entries(texts);
        if (!rows) {
          return { body: named([`"inputs":{${given.map(([key, text]) => `${JSON.stringify(key)}:${text}`).join(",")}}`]), columns: texts };
        }
        const counts = new Set(given.map(([, list]) => list.length));
        if (counts.size > 1) {
          throw new InputError(`All inputs need the same number of rows, got ${given.map(([key, list]) => `${list.length} of ${key}`).join(", ")}.`);
        }
        const columns = Object.fromEntries(given.map(([key, list]) => [key, `[${list.join(",")}]`]));
        const count = [...counts][0] ?? 0;
        const row = (i) => (signature.inputs.length === 1 ? given[0][1][i] : `{${given.map(([key, list]) => `${JSON.stringify(key)}:${list[i]}`).join(",")}}`);
        return { body: named([`"instances":[${Array.from({ length: count }, (_, i) => row(i)).join(",")}]`]), columns };
      },
    };
  }

  // Features of one tf.Example. A graph does not tell which it reads.
  function exampleFields() {
    const list = h("div", { class: "features" });
    const add = () => {
      const key = h("input", { type: "text", "aria-label": "Feature", placeholder: "feature", spellcheck: "false" });
      const value = h("input", { type: "text", "aria-label": "Value", placeholder: "1.5, text or [1, 2]", spellcheck: "false" });
      const row = h("div", { class: "feature" }, key, value, h("button", { type: "button", class: "small", "aria-label": "Remove this feature", onclick: () => row.remove() }, "×"));
      list.append(row);
    };
    add();
    return {
      elements: [
        h(
          "fieldset",
          { class: "field" },
          h("legend", {}, h("span", { class: "field-name" }, "example"), h("span", { class: "field-type" }, "tf.Example")),
          h("p", { class: "hint" }, "Numbers and lists as in JSON; anything else is text."),
          list,
          h("p", {}, h("button", { type: "button", class: "small", onclick: add }, "Add a feature")),
        ),
      ],
      async read() {
        const members = [...list.children]
          .map((row) => [...row.querySelectorAll("input")].map((box) => box.value.trim()))
          .filter(([key]) => key)
          .map(([key, value]) => `${JSON.stringify(key)}:${asJson(value)}`);
        if (!members.length) throw new InputError("Name at least one feature.");
        return { body: named([`"examples":[{${members.join(",")}}]`]), columns: null };
      },
    };
  }

  function wholeBody() {
    const area = h("textarea", { rows: 8, class: "code", spellcheck: "false" });
    area.value = state.verb === "predict" ? named(['"instances": []']) : named(['"examples": [{}]']);
    return {
      elements: [labelled("Body of the request", area)],
      async read() {
        checkedJson(area.value, "The body");
        return { body: area.value, columns: null };
      },
    };
  }

  async function submit() {
    problem.hidden = true;
    sending?.abort();
    const controller = new AbortController();
    sending = controller;
    const { verb, signature } = state;
    try {
      sendButton.setAttribute("aria-busy", "true");
      const { body: text, columns } = await fields.read();
      const [kind, which] = split(state.place);
      const request = {
        path: path(), body: text, verb, model: name, signature, columns: verb === "predict" ? columns : null,
        version: kind === "version" ? which : null, label: kind === "label" ? which : null,
      };
      snippets.replaceChildren(snippetsView(request, live.server));
      const got = await send(request.path, { method: "POST", body: text, signal: controller.signal });
      lastAnswer = { got, verb, signature };
      showAnswer();
      answer.scrollIntoView({ block: "nearest", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
    } catch (error) {
      if (error.name === "AbortError") return;
      lastAnswer = null;
      if (error instanceof InputError) {
        showEmpty();
        fail("This cannot be sent yet", error.message);
      } else if (error instanceof ServerError) {
        answer.replaceChildren(h("div", { class: "problem", role: "alert" }, h("strong", {}, error.title), h("span", {}, error.message)));
        answer.scrollIntoView({ block: "nearest" });
      } else throw error;
    } finally {
      if (sending === controller) {
        sending = null;
        sendButton.removeAttribute("aria-busy");
      }
    }
  }

  function fail(title, text) {
    problem.hidden = false;
    problem.replaceChildren(h("strong", {}, title), h("span", {}, text));
  }

  function showAnswer() {
    const { got, verb, signature } = lastAnswer;
    answer.replaceChildren(...answerView(got, verb, signature.outputs, classNames(name)).flat());
  }

  return { element: [notice, h("div", { class: "ask" }, form, h("section", { class: "answer-card", "aria-label": "Answer" }, answer)), names, snippets], update };
}

// Whether the first dimension counts rows. A picture of free size comes without: [?, ?, 3].
function hasRows(shape) {
  if (!shape?.length || (shape[0] !== null && shape[0] !== 1)) return false;
  return !(shape.length === 3 && shape[1] === null && imageLayout(shape));
}

// "version 3" and "label stable" to their two words; a label may have spaces.
function split(place) {
  const space = place.indexOf(" ");
  return space < 0 ? ["", ""] : [place.slice(0, space), place.slice(space + 1)];
}

function asJson(text) {
  try {
    JSON.parse(text);
    return text;
  } catch {
    return JSON.stringify(text);
  }
}
