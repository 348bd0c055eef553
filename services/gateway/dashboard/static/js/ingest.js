// The page of what comes in: runs that are begun, pages of files, documents that are handed in.
import "./ingest/documents.js";
import { begin } from "./runs.js";
import { ask } from "./ui.js";

document.getElementById("anew")?.addEventListener("click", async (event) => {
  const button = event.currentTarget;
  if (await ask("read-anew")) await begin(button, "transcripts", { anew: true });
});

// Which page of files is looked at; another choice begins with its first.
const form = document.getElementById("files-form");
form.addEventListener("change", (event) => {
  if (event.target.name !== "page") form.elements.page.value = "1";
}, { capture: true });
document.getElementById("files").addEventListener("change", (event) => {
  form.elements.page.value = "1"; // fields that stand in the table belong to the form, and are not in it
  window.htmx.trigger(form, "change");
});
document.getElementById("files").addEventListener("click", (event) => {
  const to = event.target.closest("[data-page]");
  if (!to) return;
  form.elements.page.value = to.dataset.page;
  form.elements.page.dispatchEvent(new Event("change", { bubbles: true }));
});
// A page of the one list is none of the other's.
for (const one of form.elements.which) {
  one.addEventListener("change", () => document.querySelectorAll('#files select').forEach((field) => (field.value = "")));
}
