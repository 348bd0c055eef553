// Server-sent events over fetch: a POST with its answer read piece by piece, stopped by a signal, watched for silence.
import { csrf, Failure, failure, login, url } from "../api.js";

const SILENCE = 60_000; // ms without a byte; the gateway sends a comment every 15 s
const LARGEST = 16 << 20; // characters of one event

/** Ask, and give each event as {name, data}. Throws a `Failure`; leaving the loop, or the signal, ends the request. */
export async function* events(path, body, signal) {
  const watch = new AbortController();
  let timer = setTimeout(() => watch.abort(), SILENCE);
  let response;
  try {
    response = await fetch(url(path), {
      method: "POST",
      headers: { Accept: "text/event-stream", "Content-Type": "application/json", "X-CSRF-Token": csrf() },
      body: JSON.stringify(body),
      signal: AbortSignal.any([signal, watch.signal]),
      credentials: "same-origin",
    });
    if (response.status === 401) {
      login();
      await new Promise(() => {}); // the page is leaving
    }
    if (!response.ok || !response.headers.get("Content-Type")?.startsWith("text/event-stream")) {
      throw failure(response.status, await response.text());
    }
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    try {
      for (;;) {
        const { value, done } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(() => watch.abort(), SILENCE);
        yield* parser.feed(value);
      }
    } finally {
      reader.cancel().catch(() => {});
    }
  } catch (error) {
    if (signal.aborted || error.status !== undefined) throw error;
    if (!response && !watch.signal.aborted) throw failure(0, "");
    throw new Failure(
      watch.signal.aborted
        ? "The answer fell silent; ask again"
        : "The connection broke before the answer was over; what had been said is kept",
      0,
    );
  } finally {
    clearTimeout(timer);
  }
}

/** Cuts a stream of text into events, wherever its pieces end. */
export class EventParser {
  #rest = "";
  #name = "message";
  #data = [];

  /** The events that are complete with this piece. */
  feed(text) {
    this.#rest += text;
    if (this.#rest.length > LARGEST) throw new RangeError("an event is too large");
    const found = [];
    // A carriage return at the very end may be half of a line end: it waits for what follows.
    const lines = this.#rest.split(/\r\n|\n|\r(?!$)/);
    this.#rest = lines.pop();
    for (const line of lines) {
      const event = this.#line(line);
      if (event) found.push(event);
    }
    return found;
  }

  #line(line) {
    if (line === "") {
      const event = this.#data.length ? { name: this.#name, data: this.#data.join("\n") } : null;
      this.#name = "message";
      this.#data = [];
      return event;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#name = value;
    if (field === "data") this.#data.push(value);
    return null;
  }
}
