// What an episode says, fetched when somebody looks at it, a few at a time, and kept for this page.
import { api } from "./api.js";

const KEPT = 500;
const AT_ONCE = 4;

const known = new Map(); // id -> promise of {summary, timestamp, instance, trust}
const waiting = [];
let running = 0;

/** The episode of an id. The latest that was asked for comes first. */
export function details(id) {
  const found = known.get(id);
  if (found) {
    known.delete(id);
    known.set(id, found); // the most recently used last
    return found;
  }
  const promise = new Promise((resolve, reject) => waiting.push({ id, resolve, reject }));
  known.set(id, promise);
  promise.catch(() => known.delete(id));
  if (known.size > KEPT) known.delete(known.keys().next().value);
  pump();
  return promise;
}

async function pump() {
  if (running >= AT_ONCE || !waiting.length) return;
  running += 1;
  const { id, resolve, reject } = waiting.pop();
  try {
    const { summary, timestamp, instance, trust } = await api("GET", `/api/episodes/${encodeURIComponent(id)}`, undefined, { deadline: 15_000 });
    resolve({ summary: summary.slice(0, 600), timestamp, instance, trust });
  } catch (error) {
    reject(error);
  }
  running -= 1;
  pump();
}
