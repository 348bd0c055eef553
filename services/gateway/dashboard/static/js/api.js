// Requests to our own origin: addresses under a sub-path, the CSRF token, errors in words, and the way to the login.

const root = document.documentElement.dataset.root ?? "";

/** The address of a path, wherever the gateway lives. */
export const url = (path) => root + path;

/** The token that everything that changes carries. */
export const csrf = () => document.querySelector('meta[name="csrf-token"]')?.content ?? "";

/** Go to the login page and come back here afterwards. */
export function login() {
  const here = location.pathname.slice(root.length) + location.search + location.hash;
  location.assign(url("/login") + "?next=" + encodeURIComponent(here));
}

export class Failure extends Error {
  /** `status` is 0 where the gateway could not be reached; `code` and `detail` are those of the error envelope. */
  constructor(message, status, code = "", detail = null) {
    super(message);
    this.status = status;
    this.code = code;
    this.detail = detail;
  }
}

/** The error that an answer's text holds. */
export function failure(status, text) {
  try {
    const { code, message, detail } = JSON.parse(text).error;
    return new Failure(message.charAt(0).toUpperCase() + message.slice(1), status, code, detail);
  } catch {
    return new Failure(
      status ? `The gateway answered ${status} without saying why` : "The gateway cannot be reached; is it running?",
      status,
    );
  }
}

/** Ask with a deadline (ms); gives the parsed JSON. A 401 leads to the login, all else is thrown as a `Failure`. */
export async function api(method, path, body = undefined, { deadline = 60_000, signal = undefined } = {}) {
  const headers = { Accept: "application/json" };
  if (method !== "GET") headers["X-CSRF-Token"] = csrf();
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limit = AbortSignal.timeout(deadline);
  let response, text;
  try {
    response = await fetch(url(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([limit, signal]) : limit,
      credentials: "same-origin",
    });
    text = await response.text();
  } catch (error) {
    if (signal?.aborted) throw error;
    throw error.name === "TimeoutError"
      ? new Failure("There was no answer in time; try again", 0)
      : failure(0, "");
  }
  if (response.status === 401) {
    login();
    return new Promise(() => {}); // the page is leaving
  }
  if (!response.ok) throw failure(response.status, text);
  return text ? JSON.parse(text) : null;
}
