// The request in the form, for a terminal and for a program.

import { apiKey, parseJson } from "./server.js";
import { choice, copyButton, download, h } from "./dom.js";

const MOST_INLINE = 2000;

const VALUE_FIELDS = {
  DT_FLOAT: "float_val",
  DT_DOUBLE: "double_val",
  DT_STRING: "string_val",
  DT_BOOL: "bool_val",
  DT_INT64: "int64_val",
  DT_UINT32: "uint32_val",
  DT_UINT64: "uint64_val",
};

// `request`: {path, body, verb, model, version, label, signature, columns}. `columns` has the JSON texts of the inputs'
// whole tensors by name, where the form made them.
export function snippetsView(request, server) {
  const kinds = [["curl", "curl"], ["python", "Python"]];
  if (request.columns && server.grpc_port) kinds.push(["grpcurl", "grpcurl"]);
  const code = h("pre", { tabindex: 0, "aria-label": "Command" });
  const file = h("span", {});
  let text = "";
  function show(kind) {
    const made = { curl, python, grpcurl }[kind](request, server);
    text = made.text;
    code.textContent = text;
    file.replaceChildren(
      made.file ? h("button", { type: "button", class: "small", onclick: () => download(made.file, made.body) }, `Save ${made.file}`) : "",
    );
  }
  show("curl");
  return h(
    "details",
    { class: "more" },
    h("summary", {}, "Use this request elsewhere"),
    choice("Language", kinds, "curl", show),
    code,
    h("p", { class: "buttons" }, copyButton(() => text), file),
  );
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

function curl({ path, body }) {
  const long = body.length > MOST_INLINE;
  const lines = [`curl ${quoted(location.origin + path)}`];
  if (apiKey()) lines.push('-H "Authorization: Bearer $API_KEY"');
  lines.push("-H 'Content-Type: application/json'", long ? "-d @request.json" : `-d ${quoted(body)}`);
  return { text: lines.join(" \\\n  "), ...(long ? { file: "request.json", body } : {}) };
}

function python({ path, body, verb }) {
  const long = body.length > MOST_INLINE;
  const lines = [
    "import requests",
    ...(apiKey() ? ["import os"] : []),
    "",
    long ? 'body = open("request.json", "rb").read()' : `body = ${pythonText(body)}`,
    `headers = {"Content-Type": "application/json"${apiKey() ? ', "Authorization": f"Bearer {os.environ[\'API_KEY\']}"' : ""}}`,
    `answer = requests.post(${JSON.stringify(location.origin + path)}, data=body, headers=headers, timeout=60)`,
    "answer.raise_for_status()",
    verb === "predict" ? "print(answer.json())" : 'print(answer.json()["results"])',
  ];
  return { text: lines.join("\n"), ...(long ? { file: "request.json", body } : {}) };
}

function pythonText(body) {
  if (!body.includes("'''") && !body.includes("\\") && !body.endsWith("'")) return `'''${body}'''.encode()`;
  return `${JSON.stringify(body)}.encode()`; // a JSON string of ASCII and Unicode is a Python one too
}

function grpcurl(request, server) {
  const body = grpcBody(request);
  const long = body.length > MOST_INLINE;
  const port = `${location.hostname}:${server.grpc_port}`;
  const key = apiKey() ? ' -H "authorization: Bearer $API_KEY"' : "";
  const start = `grpcurl ${server.grpc_tls ? "" : "-plaintext"}${key} -d ${long ? "@" : quoted(body)} \\\n  ${port} tensorflow.serving.PredictionService/Predict`;
  return { text: long ? `${start} < request.grpc.json` : start, ...(long ? { file: "request.grpc.json", body } : {}) };
}

// A PredictRequest as protobuf writes it in JSON.
export function grpcBody({ model, version, label, signature, columns }) {
  const spec = { name: model, signature_name: signature.name };
  if (version !== null) spec.version = String(version);
  if (label !== null) spec.version_label = label;
  const inputs = {};
  for (const input of signature.inputs) {
    if (columns[input.name] === undefined) continue;
    const value = parseJson(columns[input.name]);
    const sizes = [];
    for (let level = value; Array.isArray(level); level = level[0]) sizes.push({ size: String(level.length) });
    const values = Array.isArray(value) ? value.flat(Infinity) : [value];
    inputs[input.name] = {
      dtype: input.enum,
      tensor_shape: { dim: sizes },
      [VALUE_FIELDS[input.enum] ?? "int_val"]: input.dtype === "string" ? values.map(stringBytes) : values,
    };
  }
  return JSON.stringify({ model_spec: spec, inputs });
}

function stringBytes(value) {
  return value.b64 ?? btoa(String.fromCharCode(...new TextEncoder().encode(value)));
}
