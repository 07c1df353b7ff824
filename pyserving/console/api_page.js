// The REST interface, from /openapi.json: what can be asked, with which body, and a try at it.

import { h, labelled } from "./dom.js";
import { live, subscribe } from "./live.js";
import { ServerError, send } from "./server.js";

const MOST_TEXT = 20_000;

export function apiPage() {
  const place = h("div", {}, h("p", { class: "empty" }, "Loading…"));
  let known = "";

  async function show() {
    const open = new Set([...place.querySelectorAll("details[open]")].map((one) => one.id));
    try {
      const { data } = await send("/openapi.json");
      place.replaceChildren(...groups(data));
      for (const one of place.querySelectorAll("details")) if (open.has(one.id)) one.open = true;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      known = "";
      if (!open.size) place.replaceChildren(h("p", { class: "problem" }, error.message));
    }
  }

  function update() {
    // Other versions and labels have other paths.
    const key = JSON.stringify(live.models.map((model) => [model.name, model.labels, model.versions.filter((one) => one.state === "AVAILABLE").map((one) => one.version)]));
    if (key === known || live.connection !== "live") return;
    if (place.contains(document.activeElement) && known) return; // somebody works in it
    known = key;
    void show();
  }

  return {
    title: "API",
    element: [
      h("h1", {}, "API"),
      h("p", { class: "lead" }, "The REST interface of the models that are served now. For tools: ", h("a", { href: "/openapi.json" }, "openapi.json"), " (OpenAPI 3.1)."),
      place,
    ],
    stop: subscribe(update),
  };
}

function groups(openapi) {
  return openapi.tags.map((tag) => {
    const operations = Object.entries(openapi.paths).flatMap(([path, item]) =>
      Object.entries(item).filter(([, operation]) => operation.tags.includes(tag.name)).map(([method, operation]) => [method, path, operation]),
    );
    return h(
      "section",
      { class: "card operations" },
      h("h2", {}, tag.name),
      tag.description ? h("p", { class: "hint" }, tag.description) : null,
      operations.map((operation) => operationView(openapi, ...operation)),
    );
  });
}

function operationView(openapi, method, path, operation) {
  const body = h("div", { class: "operation-body" });
  const details = h(
    "details",
    { class: "operation", id: `op-${operation.operationId}` },
    h("summary", {}, h("span", { class: `method ${method}` }, method.toUpperCase()), h("code", {}, path), h("span", { class: "muted" }, operation.summary)),
    body,
  );
  details.addEventListener("toggle", () => {
    if (details.open && !body.children.length) body.append(...operationBody(openapi, method, path, operation));
  });
  return details;
}

function operationBody(openapi, method, path, operation) {
  const content = operation.requestBody?.content["application/json"];
  const examples = Object.values(content?.examples ?? {}).map((example) => example.value);
  const area = content ? h("textarea", { class: "code", rows: 5, spellcheck: "false", value: examples.length ? JSON.stringify(examples[0]) : "{}" }) : null;
  const out = h("pre", { tabindex: 0, hidden: true, "aria-label": "Answer" });
  async function run() {
    out.hidden = false;
    out.textContent = "…";
    try {
      const request = content ? { method: method.toUpperCase(), body: area.value } : {};
      const { text } = await sendAny(path, request);
      out.textContent = text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text;
    } catch (error) {
      if (!(error instanceof ServerError)) throw error;
      out.textContent = `${error.title}${error.status ? ` (${error.status})` : ""}: ${error.message}`;
    }
  }
  const responses = Object.entries(operation.responses).map(([status, response]) => {
    const found = response.$ref ? resolve(openapi, response.$ref) : response;
    const schema = found.content?.["application/json"]?.schema;
    return h("div", { class: "response" }, h("h4", {}, status === "default" ? "Any other status" : status), schema ? schemaView(openapi, schema) : h("p", { class: "hint" }, found.description));
  });
  return [
    content ? h("div", {}, h("h3", {}, "Body"), schemaView(openapi, content.schema)) : null,
    h("h3", {}, "Answers"),
    ...responses,
    h("h3", {}, "Try it"),
    area ? labelled("Body", area) : null,
    h("p", { class: "buttons" }, h("button", { type: "button", class: "primary", onclick: run }, "Send")),
    out,
  ].filter(Boolean);
}

// The metrics page is no JSON.
async function sendAny(path, request) {
  try {
    return await send(path, request);
  } catch (error) {
    if (error.status !== 200) throw error;
    return { text: await (await fetch(path)).text() };
  }
}

function resolve(openapi, reference) {
  return reference.slice(2).split("/").reduce((node, key) => node[key], openapi);
}

// A schema in the words of a person, as a tree.
function schemaView(openapi, schema) {
  return h("pre", { class: "schema", tabindex: 0, "aria-label": "Schema" }, words(openapi, schema, ""));
}

function words(openapi, schema, indent) {
  if (schema.$ref) return words(openapi, resolve(openapi, schema.$ref), indent);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  const options = schema.anyOf ?? (schema.oneOf?.every((one) => one.type || one.$ref) ? schema.oneOf : null);
  if (options && !schema.properties) {
    const listed = [...new Set(options.map((one) => words(openapi, one, indent)))];
    return listed.join(listed.some((text) => text.includes("\n")) ? `\n${indent}or ` : " or ");
  }
  if (schema.allOf) return words(openapi, merged(openapi, schema), indent);
  if (schema.not) return "(JSON cannot carry it)";
  if (schema.type === "array") return arrayWords(openapi, schema, indent);
  if (schema.properties || schema.type === "object") {
    const inner = `${indent}  `;
    const either = (schema.oneOf ?? []).flatMap((one) => one.required ?? []);
    const lines = Object.entries(schema.properties ?? {}).map(([name, value]) => {
      const choice = either.indexOf(name);
      const mark = choice < 0 ? "" : choice ? "or " : "either ";
      const optional = schema.required?.includes(name) || mark ? "" : "?";
      return `${inner}${mark}${JSON.stringify(name)}${optional}: ${words(openapi, value, inner)}`;
    });
    if (schema.additionalProperties) lines.push(`${inner}NAME: ${words(openapi, schema.additionalProperties, inner)}`);
    return lines.length ? `{\n${lines.join(",\n")}\n${indent}}` : "{}";
  }
  if (Array.isArray(schema.type)) return schema.type.join(" or ");
  return schema.type ?? "anything";
}

function arrayWords(openapi, schema, indent) {
  if (schema.description && !/form$/.test(schema.description)) return schema.description;
  const item = schema.items ? words(openapi, schema.items, indent) : (schema.prefixItems ?? [{}]).map((one) => words(openapi, one, indent)).join(", ");
  return schema.prefixItems ? `[${item}]` : `[${item}, …]`;
}

function merged(openapi, schema) {
  const all = [...schema.allOf, schema].map((one) => (one.$ref ? resolve(openapi, one.$ref) : one));
  return {
    type: "object",
    properties: Object.assign({}, ...all.map((one) => one.properties ?? {})),
    required: all.flatMap((one) => one.required ?? []),
  };
}
