// Requests to the server that this page came from.

const KEY = "pyserving-api-key";

export function apiKey() {
  return sessionStorage.getItem(KEY) ?? "";
}

export function setApiKey(key) {
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

// What went wrong, as a person can read it. `status` is that of HTTP; 0: no answer came.
export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  get title() {
    switch (this.status) {
      case 0:
        return "The server does not answer";
      case 401:
        return "An API key is needed";
      case 403:
        return "Not allowed";
      case 404:
        return "Not found";
      case 413:
        return "Too large for this server";
      case 429:
        return "The server is busy";
      case 503:
        return "Not available now";
      case 504:
        return "It took too long";
      default:
        return this.status >= 500 ? "The server failed" : "The request was refused";
    }
  }
}

const HINTS = {
  0: "It may have been stopped, or the network is down. This page goes on by itself when it is back.",
  401: "Set your key with the key button at the top of the page.",
  403: "What your API key may do does not include this.",
};

// Sends and returns {text, data, seconds}: `data` is what the JSON in `text` says. Raises ServerError.
export async function send(path, { method = "GET", body, signal } = {}) {
  const headers = {};
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const start = performance.now();
  let answer;
  let text;
  try {
    answer = await fetch(path, { method, body, headers, signal, cache: "no-store" });
    text = await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError(0, HINTS[0]);
  }
  const seconds = (performance.now() - start) / 1000;
  let data = null;
  try {
    data = parseJson(text);
  } catch {
    if (answer.ok) throw new ServerError(answer.status, "The answer is not JSON.");
  }
  if (!answer.ok) {
    const said = typeof data?.error === "string" ? data.error : text.slice(0, 500);
    throw new ServerError(answer.status, [said, HINTS[answer.status]].filter(Boolean).join(" — "));
  }
  return { text, data, seconds };
}

// The server writes NaN and Infinity, which JSON does not have, and integers that a JavaScript number cannot hold. Both
// become strings.
const UNSAFE = /-?\b(?:NaN|Infinity)\b|-?\d{16,}(?![\d.eE])/;
const TOKENS = /"(?:[^"\\]|\\.)*"|-?\b(?:NaN|Infinity)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

export function parseJson(text) {
  if (!UNSAFE.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKENS, (token) => (token[0] !== '"' && isUnsafe(token) ? `"${token}"` : token)));
}

function isUnsafe(token) {
  return /[a-zN]/i.test(token.replace(/e/i, "")) || (/^-?\d+$/.test(token) && !Number.isSafeInteger(Number(token)));
}
