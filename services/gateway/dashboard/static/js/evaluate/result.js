// What came of a run: its scores side by side, the better ones marked, and the questions where they differ.
import { el } from "../ui.js";
import { details } from "../details.js";
import { episodeUrl } from "./questions.js";

const share = (value) => `${(100 * value).toFixed(1)} %`;
const time = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const METRICS = [
  ["recall", "Recall", "of the right episodes, found", share, 1],
  ["mrr", "Rank", "1 / place of the first right one, on average", (value) => value.toFixed(3), 1],
  ["precision", "Precision", "of what was returned, right", share, 1],
  ["silence", "Silence where right", "of questions that nothing answers", share, 1],
  ["false_silence", "Silence where wrong", "of questions that something answers", share, -1],
  ["p50_ms", "Time, half of all", "", time, -1],
  ["p95_ms", "Time, 95 of 100", "", time, -1],
];

/** A table of Scores: one column a configuration. */
export function scoresTable(scores) {
  const head = el("tr", {}, el("td"), ...scores.map((one) => el("th", { scope: "col" }, one.configuration)));
  const rows = METRICS.map(([key, name, about, format, better]) => {
    const values = scores.map((one) => one[key]);
    const known = values.filter((one) => one != null);
    if (!known.length) return null;
    const best = better * Math.max(...known.map((one) => better * one));
    const decided = known.some((one) => one !== best);
    const most = key.endsWith("_ms") ? Math.max(...known) : 1;
    const cells = values.map((value) => {
      if (value == null) return el("td", {}, el("span", { class: "muted", title: "No question can tell" }, "–"));
      const wins = decided && value === best;
      const bar = el("span", { class: "value-bar", "aria-hidden": "true" }, el("i"));
      bar.firstChild.style.width = `${most ? Math.max(0, Math.min(100, (100 * value) / most)) : 0}%`;
      const mark = wins ? el("span", { class: "best-mark" }, "better") : null;
      return el("td", { class: wins ? "best" : null }, el("span", { class: "value" }, el("b", {}, format(value)), mark), bar);
    });
    return el("tr", {}, el("th", { scope: "row" }, name, about ? el("small", {}, about) : null), ...cells);
  });
  const table = el("table", { class: "scores" }, el("thead", {}, head), el("tbody", {}, ...rows.filter(Boolean)));
  const questions = Math.max(...scores.map((one) => one.questions));
  const note = el("p", { class: "muted small-text more" }, `Over ${questions.toLocaleString()} ${questions === 1 ? "question" : "questions"}.`);
  return el("div", {}, el("div", { class: "table-wrap", tabindex: "0", role: "group", "aria-label": "Scores" }, table), note);
}

/** The questions of QuestionOutcome that came out differently; each opens to what was found. */
export function outcomesList(outcomes, names) {
  if (!outcomes.length) return null;
  const rows = outcomes.map((one) => {
    const right = new Set(one.expected);
    const badges = one.found.map((found, at) => {
      const hits = found.filter((id) => right.has(id)).length;
      const good = right.size ? hits === right.size : !found.length;
      const words = right.size ? `${hits} of ${right.size}` : found.length ? `${found.length} instead of silence` : "silence";
      return el("span", { class: `badge ${good ? "good" : "bad"}` }, names.length > 1 ? `${names[at] ?? at + 1}: ${words}` : words);
    });
    const row = el("details", {}, el("summary", {}, el("span", { dir: "auto" }, one.question), el("span", { class: "badges" }, ...badges)));
    row.addEventListener("toggle", () => {
      if (!row.open || row.children.length > 1) return;
      const column = (title, ids, none) =>
        el("div", {}, el("h4", {}, title), ids.length ? el("ul", {}, ...ids.map((id) => episode(id, right.has(id)))) : el("p", { class: "muted" }, none));
      row.append(
        el("div", { class: "outcome" }, column("Right", one.expected, "silence"), ...one.found.map((found, at) => column(names[at] ?? `Configuration ${at + 1}`, found, "silence"))),
      );
    });
    return row;
  });
  const title = names.length > 1 ? "Where they differ" : "Where it went wrong";
  const first = outcomes.length >= 100 ? " The first 100." : "";
  return el("section", { class: "outcomes", "aria-label": title }, el("h3", {}, title), el("p", { class: "muted small-text" }, `${outcomes.length} ${outcomes.length === 1 ? "question" : "questions"}.${first}`), ...rows);
}

function episode(id, right) {
  const link = el("a", { href: episodeUrl(id), dir: "auto" }, id);
  details(id).then((one) => (link.textContent = one.summary.slice(0, 200)), () => {});
  const mark = el("span", { class: right ? "right" : "muted", "aria-hidden": "true" }, right ? "✓" : "·");
  return el("li", {}, mark, el("span", {}, right ? el("span", { class: "visually-hidden" }, "right: ") : null, link));
}
