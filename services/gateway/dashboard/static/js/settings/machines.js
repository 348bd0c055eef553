// Machines: where the files of each lie.
import { showFailure } from "../ui.js";
import { crawler } from "./crawler.js";
import { bind } from "./form.js";
import { Rows } from "./rows.js";

const form = document.getElementById("machines");
const rows = new Rows(form, "machine-row");

/** The row of `machine root '/srv/files'`, as the service names it. */
function named(where) {
  const path = where.startsWith("machine root ") ? where.slice("machine root ".length + 1, -1) : null;
  return rows.rows.map((row) => row.querySelector('[data-key="path"]')).find((field) => field.value.trim() === path) ?? null;
}

const show = bind(form, crawler, {
  fill: (config) => rows.fill(config.machine_roots),
  read: (config) => ({ ...config, machine_roots: rows.values.map(({ instance = "", path = "" }) => ({ instance, path })) }),
  path: "/api/crawler/config/machine-roots",
  body: ({ machine_roots }) => ({ machine_roots }),
  fieldOf: (where) => rows.fieldOf(where, "machine_roots") ?? named(where),
  said: "Machines saved",
});
crawler.watch(show, (error, retry) => showFailure(document.getElementById("machines-failed"), error, retry));
