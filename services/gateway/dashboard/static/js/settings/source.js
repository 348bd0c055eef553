// The form of one source: filled, previewed without reading anything, saved, refused beside the field that is wrong.
import { api } from "../api.js";
import { announce, during, el } from "../ui.js";
import { crawler } from "./crawler.js";
import { clearErrors, counted, invalid, lines, showErrors, size, words } from "./page.js";
import { conflict } from "./versioned.js";

const LOOKING = 90_000; // ms
const SHOWN = 8; // examples

const dialog = document.getElementById("source-dialog");
const form = dialog.querySelector("form");
const fields = form.elements;
const preview = document.getElementById("preview");
const problem = form.querySelector(".form-error");
let save = null; // what is done with what the form says
let before = null; // the source as it was, with what the form does not show

function kindChanged() {
  const kind = form.querySelector('[name="kind"]:checked');
  document.getElementById("s-globs-label").textContent = kind.value === "deep" ? "Names of the directories" : "Files";
  fields.globs.placeholder = kind.dataset.globs;
  preview.replaceChildren();
}

function fill(source) {
  fields.kind.value = source?.kind ?? "named";
  fields.name.value = source?.name ?? "";
  fields.project.value = source?.project ?? "";
  fields.root.value = source?.root ?? "";
  fields.globs.value = (source?.globs ?? []).join("\n");
  fields.excludes.value = (source?.excludes ?? []).join("\n");
  fields.tags.value = (source?.tags ?? []).join(", ");
  fields.extensions.value = (source?.extensions ?? []).join(" ");
  fields.max_bytes.value = source?.max_bytes ? source.max_bytes / 1024 : "";
  fields.gitignore.checked = source?.gitignore ?? true;
  fields.enabled.checked = source?.enabled ?? true;
  kindChanged();
}

function read() {
  const extensions = words(fields.extensions.value.replaceAll(/\s+/g, ","));
  return {
    ...before,
    kind: fields.kind.value,
    name: fields.name.value.trim(),
    project: fields.project.value.trim() || null,
    root: fields.root.value.trim() || null,
    globs: lines(fields.globs.value),
    excludes: lines(fields.excludes.value),
    tags: words(fields.tags.value),
    extensions: extensions.length ? extensions : null,
    max_bytes: fields.max_bytes.value ? Math.round(Number(fields.max_bytes.value) * 1024) : null,
    gitignore: fields.gitignore.checked,
    enabled: fields.enabled.checked,
  };
}

/**
 * The field of an error's place: `sources.2.globs.0`, `body.source.root`, or `source 'notes'`, where only the words tell
 * whether the patterns are meant. What concerns another source has none.
 */
function fieldOf(where, why) {
  const whose = where.match(/^source ['"](.*)['"]$/);
  if (whose && whose[1] !== fields.name.value.trim()) return null;
  if (whose) return why.includes("glob") ? fields.globs : why.includes("have this name") ? fields.name : fields.root;
  const name = where.split(".").find((part) => fields.namedItem(part));
  const found = name && fields.namedItem(name);
  return found instanceof Element ? found : null;
}

function refuse(error) {
  // A path that may not be read is said in words; it is the directory's fault, which no other field can be.
  showErrors(form, error, fieldOf, [400, 403].includes(error.status) && error.code !== "conflict" ? fields.root : null);
}

/** Files that would be read, and those that would not, by reason. */
function found(told) {
  const reasons = Object.entries({ ...told.left_out }).sort((a, b) => b[1] - a[1]);
  const errors = Object.entries(told.errors);
  const list = (all) => all.map(([reason, count]) => `${count.toLocaleString()} ${reason.replaceAll(/[-_]/g, " ")}`).join(", ");
  return [
    el("p", {}, el("b", {}, counted(told.files, "file")), ` would be read, ${size(told.bytes)} in all`, told.complete ? "" : "; time ended before all was seen"),
    told.examples.length ? el("ul", { class: "plain mono small-text" }, ...told.examples.slice(0, SHOWN).map((one) => el("li", {}, one))) : null,
    reasons.length ? el("p", { class: "muted small-text" }, `Left out: ${list(reasons)}`) : null,
    errors.length ? el("p", { class: "small-text field-error" }, `Not readable: ${list(errors)}`) : null,
    told.files ? null : el("p", { class: "muted small-text" }, "Nothing fits. Look at the directory and the patterns, or at the machines below."),
  ];
}

document.getElementById("preview-source").addEventListener("click", (event) => {
  clearErrors(form);
  problem.replaceChildren();
  if (invalid(form)) return;
  during(event.currentTarget, async () => {
    preview.replaceChildren(el("p", { class: "muted" }, "Looking; nothing is read"));
    try {
      const told = await api("POST", "/api/crawler/preview", { source: read() }, { deadline: LOOKING });
      preview.replaceChildren(...found(told).filter(Boolean));
      preview.scrollIntoView({ block: "nearest" });
    } catch (error) {
      preview.replaceChildren();
      refuse(error);
    }
  });
});

form.addEventListener("change", (event) => event.target.name === "kind" && kindChanged());
form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors(form);
  problem.replaceChildren();
  if (invalid(form)) return;
  during(document.getElementById("save-source"), async () => {
    try {
      const wish = read();
      await save(wish);
      dialog.close();
      announce(`${wish.name} is saved; the next scan reads it`, "good");
    } catch (error) {
      if (!conflict(error)) return refuse(error);
      const again = el("button", { type: "button", class: "small" }, "Load the newer settings, keep what stands here");
      again.addEventListener("click", async () => {
        await crawler.load();
        problem.replaceChildren(el("p", { class: "small-text muted" }, "Loaded. Save puts this source among them."));
      });
      problem.replaceChildren(el("div", { class: "notice warn", role: "alert" }, el("div", {}, el("p", {}, el("b", {}, "Somebody else changed the sources meanwhile.")), el("p", { class: "more" }, again))));
    }
  });
});

/** Open the form with `given`; `existing` is the source that it changes, none for a new one. `then(source)` saves it. */
export function editSource(given, existing, then) {
  document.getElementById("source-title").textContent = existing ? `The source ${existing.name}` : "A new source";
  clearErrors(form);
  problem.replaceChildren();
  before = existing;
  save = then;
  fill(given);
  form.querySelector("details").open = Boolean(given?.excludes?.length || given?.extensions || given?.max_bytes || given?.gitignore === false);
  dialog.showModal();
  (given?.name ? fields.name : form.querySelector('[name="kind"]:checked')).focus();
}
