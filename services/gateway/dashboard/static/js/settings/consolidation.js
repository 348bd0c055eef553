// Consolidation: first what would be done, then the wish to do it, and the way back for each group.
import { api, url } from "../api.js";
import { announce, ask, during, el } from "../ui.js";
import { badge, button, clearErrors, counted, invalid, showErrors } from "./page.js";

const PATH = "/api/episodes/consolidate";
const COMPARING = 300_000; // ms
const MOST = 1000; // groups
const SHOWN = 50; // groups that are listed at once

const form = document.getElementById("consolidation");
const groups = document.getElementById("groups");

function wish(dry_run) {
  const { within_session, across_sources, project_filter } = form.elements;
  return {
    dry_run,
    within_session: Number(within_session.value),
    across_sources: Number(across_sources.value),
    project_filter: project_filter.value.trim() || null,
    limit: MOST,
  };
}

const link = (id) => el("a", { class: "mono", href: url(`/dashboard/episodes/${encodeURIComponent(id)}`) }, id);

function group(one) {
  const undo = one.episode_id
    ? button("Undo", (by) =>
        during(by, async () => {
          await api("POST", `${PATH}/undo`, { episode_ids: [one.episode_id] });
          by.replaceWith(badge("undone", "warn"));
          announce("Undone: its episodes are current again", "good");
        }),
      )
    : null;
  return el(
    "li",
    { class: "group" },
    el("div", { class: "row" }, el("span", { class: "badges" }, badge(one.project, "accent"), badge(one.kind === "session" ? "within a session" : "across sources"), badge(`${(100 * one.similarity).toFixed(1)} % alike`)), el("span", { class: "push" }, undo ?? "")),
    el("p", { class: "group-summary" }, one.summary),
    one.episode_id ? el("p", { class: "small-text" }, "Now one: ", link(one.episode_id)) : null,
    el("details", {}, el("summary", {}, `${one.members.length} episodes, the oldest first`), el("ul", { class: "plain small-text" }, ...one.members.map((id) => el("li", {}, link(id))))),
  );
}

/** All groups, some at a time. */
function listed(all) {
  const list = el("ol", { class: "groups" }, ...all.slice(0, SHOWN).map(group));
  if (all.length <= SHOWN) return [list];
  const rest = el("button", { type: "button", class: "small" }, `Show the other ${(all.length - SHOWN).toLocaleString()}`);
  rest.addEventListener("click", () => {
    list.append(...all.slice(SHOWN).map(group));
    rest.remove();
  });
  return [list, rest];
}

function show(found) {
  const { dry_run: dry } = found;
  const about = found.groups.length
    ? `${counted(found.superseded, "episode")} in ${counted(found.groups.length, "group")} ${dry ? "would become one each" : "became one each"}, of ${found.examined.toLocaleString()} that were compared${found.complete ? "" : "; there are more"}`
    : `No near-duplicates among the ${counted(found.examined, "episode")} that were compared${found.complete ? "" : " in time"}.`;
  const go = dry && found.groups.length ? button(`Consolidate ${counted(found.groups.length, "group")}`, consolidate, { kind: "small primary push", label: null }) : null;
  groups.replaceChildren(el("div", { class: "row group-head" }, el("p", { role: "status" }, about), go ?? ""), ...(found.groups.length ? listed(found.groups) : []));
  groups.dataset.count = counted(found.superseded, "episode");
  groups.focus({ preventScroll: true });
}

async function consolidate(by) {
  document.getElementById("consolidate-count").textContent = groups.dataset.count;
  if (!(await ask("consolidate"))) return;
  await during(by, async () => {
    show(await api("POST", PATH, wish(false), { deadline: COMPARING }));
    announce("Consolidated", "good");
  });
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  form.querySelector(".form-error").replaceChildren();
  if (invalid(form)) return;
  during(form.querySelector("button"), async () => {
    try {
      show(await api("POST", PATH, wish(true), { deadline: COMPARING }));
    } catch (error) {
      showErrors(form, error, (where) => form.elements.namedItem(where.split(".").at(-1)));
    }
  });
});
// What was shown is not what other bounds would find.
form.addEventListener("input", () => groups.replaceChildren());
