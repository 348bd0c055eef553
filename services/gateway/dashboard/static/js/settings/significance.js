// What is worth remembering, project by project.
import { showFailure } from "../ui.js";
import { bind } from "./form.js";
import { jsonl } from "./jsonl.js";
import { Rows } from "./rows.js";

const CHOICES = ["nods", "commands", "sidechains"];
const form = document.getElementById("significance");
const rows = new Rows(form, "significance-row");

/** Of a project that is not read at all there is nothing to weigh. */
function excluded() {
  for (const row of rows.rows) row.querySelector("[data-unless-excluded]").hidden = row.querySelector('[data-key="exclude"]').checked;
}

const show = bind(form, jsonl, {
  fill(config) {
    rows.fill(config.significance);
    excluded();
  },
  read: (config) => ({
    ...config,
    significance: rows.values.map((one) => {
      const choices = CHOICES.filter((key) => key in one).map((key) => [key, one[key] === "true"]);
      return { project: "", ...one, ...Object.fromEntries(choices) };
    }),
  }),
  fieldOf: (where) => rows.fieldOf(where, "significance"),
});
form.addEventListener("change", excluded);
jsonl.watch(show, (error, retry) => showFailure(document.getElementById("significance-failed"), error, retry));
