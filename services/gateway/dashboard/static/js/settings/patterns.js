// Patterns that give tags to documents.
import { showFailure } from "../ui.js";
import { bind } from "./form.js";
import { Rows } from "./rows.js";
import { Versioned } from "./versioned.js";

const form = document.getElementById("patterns");
const rows = new Rows(form, "pattern-row");
const store = new Versioned("/api/crawler/config/docx-tag-patterns", ({ patterns }) => ({ patterns }));

const show = bind(form, store, {
  fill: ({ patterns }) => rows.fill(patterns),
  read: () => ({ patterns: rows.values.map(({ pattern = "", ...rest }) => ({ pattern, ...rest })) }),
  fieldOf: (where) => rows.fieldOf(where, "patterns"),
  said: "Patterns saved",
});
store.watch(show, (error, retry) => showFailure(document.getElementById("patterns-failed"), error, retry));
