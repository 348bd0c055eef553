// The page of evaluations: questions and configurations in, a run that is watched, scores side by side.
import { api, url } from "./api.js";
import { Configurations } from "./evaluate/configurations.js";
import { Questions } from "./evaluate/questions.js";
import { outcomesList, scoresTable } from "./evaluate/result.js";
import { announce, during, el, localise, showFailure } from "./ui.js";

const LOOK = 1000; // ms between two looks at a run
const MISSES = 10; // looks in a row that may fail before the page says so
const STATES = { running: ["running", "accent"], done: ["done", "good"], failed: ["failed", "bad"], stopped: ["stopped", "warn"] };

const page = document.getElementById("evaluate");
const result = document.getElementById("result");
const body = document.getElementById("result-body");
const about = document.getElementById("result-about");
const stop = document.getElementById("stop-run");
const run = document.getElementById("run");
const hint = document.getElementById("run-hint");
const past = document.getElementById("past");

const configurations = new Configurations(Number(page.dataset.mostConfigurations));
const questions = new Questions(Number(page.dataset.mostQuestions), page.dataset.setting, () => ready());
let watched = null; // the id of the run that is shown
let going = false; // whether one is under way

const made = () => document.querySelector('[name="which"]:checked').value === "made";

/** Whether a run can begin, and if not, what is missing. */
function ready() {
  document.getElementById("own").hidden = made();
  document.getElementById("made").hidden = !made();
  const missing = !made() && questions.loaded && !questions.list.length;
  run.disabled = going || missing || (!made() && !questions.loaded);
  hint.textContent = missing ? "Add a question first, or have some made from episodes." : "";
}

for (const one of document.querySelectorAll('[name="which"]')) one.addEventListener("change", ready);

run.addEventListener("click", async () => {
  const fields = [document.getElementById("made-count"), document.getElementById("run-sample")];
  const wrong = configurations.wrong ?? fields.find((field) => !field.validity.valid);
  if (wrong) {
    wrong.closest("details")?.setAttribute("open", "");
    return wrong.reportValidity();
  }
  const request = { configurations: configurations.list, sample: Number(fields[1].value) || 500 };
  if (made()) request.made = Number(fields[0].value) || 50;
  else request.questions = questions.list;
  const project = document.getElementById("run-project").value.trim();
  if (project) request.project = project;
  const begun = await during(run, () => api("POST", "/api/evaluate", request));
  ready();
  if (!begun) return;
  show(begun);
  watch(begun.run_id);
  document.getElementById("result-title").focus({ preventScroll: true });
  result.scrollIntoView({ block: "nearest" });
});

stop.addEventListener("click", () =>
  during(stop, async () => {
    show(await api("DELETE", `/api/evaluate/${encodeURIComponent(watched)}`));
    announce("Stopped");
  }),
);

/** Look at a run until it is over. */
async function watch(id) {
  watched = id;
  going = true;
  ready();
  history.replaceState(null, "", url(`/dashboard/evaluate?run=${encodeURIComponent(id)}`));
  let misses = 0;
  for (;;) {
    try {
      const found = await api("GET", `/api/evaluate/${encodeURIComponent(id)}`, undefined, { deadline: 20_000 });
      if (watched !== id) return;
      misses = 0;
      show(found);
      if (found.state !== "running") {
        going = false;
        ready();
        document.getElementById("announce").textContent = found.state === "done" ? "The run is done." : `The run has ${STATES[found.state]?.[0] ?? "ended"}.`;
        return earlier();
      }
    } catch (error) {
      misses += 1;
      if (watched !== id) return;
      if (error.status === 404 || misses > MISSES) {
        going = false;
        ready();
        result.hidden = false;
        return showFailure(body, error, () => watch(id));
      }
    }
    await new Promise((done) => setTimeout(done, document.hidden ? 5 * LOOK : LOOK));
    if (watched !== id) return;
  }
}

let drawn = ""; // what is shown, so that a look that brings nothing new moves nothing

function show(found) {
  watched = found.run_id;
  result.hidden = false;
  stop.hidden = found.state !== "running";
  const [words, tone] = STATES[found.state] ?? [found.state, ""];
  about.replaceChildren(el("span", { class: `badge ${tone}` }, words), " ", el("time", { datetime: found.started_at, "data-relative": true }, ""));
  localise(about);
  const now = JSON.stringify(found);
  if (now === drawn) return;
  drawn = now;
  const parts = [];
  if (found.state === "running") {
    parts.push(
      el("progress", { "aria-label": "Progress of the run", max: found.total || 1, value: found.done }),
      el("p", { class: "muted small-text more" }, found.total ? `${found.done.toLocaleString()} of ${found.total.toLocaleString()}` : "Getting ready; another embedding model has to read its sample first"),
    );
  }
  if (found.error) parts.push(el("div", { class: "notice bad" }, el("div", {}, el("p", {}, el("b", {}, "The run failed")), el("p", {}, `${found.error}. Mend that, and run it again.`))));
  if (found.scores.length) parts.push(scoresTable(found.scores));
  const names = found.scores.map((one) => one.configuration);
  const outcomes = outcomesList(found.outcomes, names);
  if (outcomes) parts.push(outcomes);
  else if (found.state === "done" && found.scores.length) parts.push(el("p", { class: "muted small-text" }, names.length > 1 ? "They agree on every question." : "Every question came out right."));
  body.replaceChildren(...parts);
}

async function earlier() {
  let runs;
  try {
    ({ runs } = await api("GET", "/api/evaluate"));
  } catch (error) {
    return showFailure(past, error, earlier);
  }
  if (!runs.length) return past.replaceChildren(el("p", { class: "muted" }, "None yet. What a run finds is kept here."));
  const rows = runs.map((one) => {
    const [words, tone] = STATES[one.state] ?? [one.state, ""];
    const names = one.scores.map((score) => (score.recall == null ? score.configuration : `${score.configuration} ${Math.round(100 * score.recall)} %`)).join(", ");
    const link = el("a", { href: url(`/dashboard/evaluate?run=${encodeURIComponent(one.run_id)}`) }, el("time", { datetime: one.started_at }, one.started_at));
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      watch(one.run_id);
      result.scrollIntoView({ block: "nearest" });
    });
    return el("li", {}, link, el("span", { class: `badge ${tone}` }, words), el("span", { class: "push" }, names ? `recall: ${names}` : ""));
  });
  past.replaceChildren(el("ul", { class: "past-list" }, ...rows));
  localise(past);
  const open = runs.find((one) => one.state === "running");
  if (open && !watched) watch(open.run_id);
}

async function suggest() {
  try {
    const stats = await api("GET", "/api/episodes/stats");
    document.getElementById("run-projects").replaceChildren(...stats.projects.slice(0, 200).map((one) => el("option", { value: one.name })));
  } catch {
    // Suggestions only.
  }
}

ready();
questions.load();
configurations.load();
suggest();
const wanted = new URLSearchParams(location.search).get("run");
if (wanted) watch(wanted);
earlier();
