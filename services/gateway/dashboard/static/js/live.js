// The page's one event stream: what it tells becomes events of the body, `live:<name>` with the parsed data.
import { api, url } from "./api.js";

const NAMES = ["stats", "embedding", "reembed", "ingest", "crawler", "schedule", "summaries", "latency"];
const WORDS = { on: "Live", off: "Connecting", lost: "Not connected" };

function show(state) {
  const line = document.getElementById("live");
  if (line.dataset.state === state) return;
  line.dataset.state = state;
  line.querySelector(".live-text").textContent = WORDS[state];
}

let source = null;
const last = new Map(); // what a panel has shown already is no news
let pause = 2000; // ms until the next try; doubles up to a minute

function connect() {
  source = new EventSource(url("/api/events"));
  source.addEventListener("open", () => {
    show("on");
    pause = 2000;
  });
  for (const name of NAMES) {
    source.addEventListener(name, (event) => {
      const before = last.get(name);
      last.set(name, event.data);
      if (before === undefined || before === event.data) return;
      document.body.dispatchEvent(new CustomEvent(`live:${name}`, { detail: JSON.parse(event.data) }));
    });
  }
  source.addEventListener("error", () => {
    show("lost");
    source.close();
    setTimeout(again, pause);
    pause = Math.min(2 * pause, 60_000);
  });
}

/** A stream says not why it was refused; an ordinary request does, and leads to the login where a key is missing. */
async function again() {
  if (document.hidden) return document.addEventListener("visibilitychange", again, { once: true });
  try {
    await api("GET", "/api/embedding/config", undefined, { deadline: 10_000 });
  } catch {
    // The stream is tried all the same: it tells more than this one path.
  }
  connect();
}

export function listen() {
  connect();
  // A page that is kept for going back holds no connection: browsers allow about six an origin.
  addEventListener("pagehide", () => source?.close());
  addEventListener("pageshow", (event) => event.persisted && connect());
}
