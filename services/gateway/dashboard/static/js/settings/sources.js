// Sources: the list of them, switched on and off, removed, and the way into the form of one.
import { announce, ask, during, el, showFailure } from "../ui.js";
import { crawler } from "./crawler.js";
import { badge, button, mayEdit } from "./page.js";
import { editSource } from "./source.js";
import { conflict, conflictNotice } from "./versioned.js";

const place = document.getElementById("sources");
const titles = new Map(
  [...document.querySelectorAll('#source-dialog [name="kind"]')].map((one) => [one.value, one.parentElement.querySelector("b").textContent]),
);
const PATH = "/api/crawler/config/sources";

/** Write the sources that `change(sources)` gives. */
const save = (change) =>
  crawler.save((config) => ({ ...config, sources: change(config.sources) }), { path: PATH, body: ({ sources }) => ({ sources }) });

/** A change that has no form of its own to say what went wrong in. */
async function quick(by, change, said) {
  await during(by, async () => {
    try {
      await save(change);
      announce(said, "good");
    } catch (error) {
      if (!conflict(error)) throw error;
      place.prepend(conflictNotice(() => crawler.load()));
    }
  });
}

function where(source) {
  const root = source.root ?? "each machine";
  const globs = source.globs.length ? source.globs.join(", ") : "as the kind has it";
  return el("p", { class: "muted small-text mono source-where" }, `${root} · ${globs}`);
}

function line(source) {
  const flip = el("input", { type: "checkbox", role: "switch", class: "switch", "aria-label": `Read ${source.name}`, checked: source.enabled, disabled: !mayEdit });
  flip.addEventListener("change", () => {
    const enabled = flip.checked;
    const change = (all) => all.map((one) => (one.name === source.name ? { ...one, enabled } : one));
    quick(flip, change, `${source.name} is ${enabled ? "read" : "not read any more"}`).then(() => (flip.checked = current(source.name)?.enabled ?? enabled));
  });
  return el(
    "li",
    { class: "source" },
    flip,
    el(
      "div",
      { class: "source-about" },
      el("p", { class: "badges" }, el("b", {}, source.name), badge(titles.get(source.kind) ?? source.kind, "accent"), ...source.tags.map((tag) => badge(`#${tag}`)), source.project ? badge(`project ${source.project}`) : null),
      where(source),
    ),
    el(
      "div",
      { class: "row" },
      button("Edit", () => edit(source), { label: `Edit ${source.name}` }),
      button("Remove", (by) => remove(source, by), { kind: "small danger", label: `Remove ${source.name}` }),
    ),
  );
}

const current = (name) => crawler.config.sources.find((one) => one.name === name);

async function remove(source, by) {
  document.getElementById("delete-source-name").textContent = source.name;
  if (!(await ask("delete-source"))) return;
  await quick(by, (all) => all.filter((one) => one.name !== source.name), `${source.name} is removed`);
}

/** Open the form; `source` is replaced under its present name, a new one is added. */
function edit(source, given = source) {
  const name = source?.name;
  editSource(given, source, (wish) =>
    save((all) => {
      const others = all.filter((one) => one.name !== name);
      if (others.some((one) => one.name === wish.name)) {
        throw Object.assign(new Error("There is a source of this name already"), { detail: [{ where: "name", why: "There is a source of this name already" }] });
      }
      return name && all.length !== others.length ? all.map((one) => (one.name === name ? wish : one)) : [...all, wish];
    }),
  );
}

function preset(data) {
  const { name, kind, globs, tags, root } = JSON.parse(data);
  edit(null, { name, kind, globs: globs ? globs.split(", ") : [], tags: tags ? [tags] : [], root: root || null });
}

function show(config, answer) {
  if (config.sources.length) {
    place.replaceChildren(el("ul", { class: "sources" }, ...config.sources.map(line)));
  } else {
    place.replaceChildren(document.getElementById("no-sources").content.cloneNode(true));
    place.querySelector("[data-add]")?.addEventListener("click", () => edit(null));
    for (const one of place.querySelectorAll("[data-preset]")) one.addEventListener("click", () => preset(one.dataset.preset));
  }
  document.getElementById("warnings").replaceChildren(...(answer.warnings ?? []).map((one) => el("p", { class: "notice warn small-text" }, one.charAt(0).toUpperCase() + one.slice(1))));
  document.getElementById("allowed").textContent = `This service may read ${answer.allowed.join(", ") || "nothing"}; ANAMNESIS_SOURCES says so where it runs.`;
}

document.getElementById("add-source")?.addEventListener("click", () => edit(null));
crawler.watch(show, (error, retry) => showFailure(place, error, retry));
