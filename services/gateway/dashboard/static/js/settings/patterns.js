// Patterns that give tags to documents. They have no version: the service keeps them beside its configuration.
import { api } from "../api.js";
import { showFailure } from "../ui.js";
import { bind } from "./form.js";
import { Rows } from "./rows.js";

const form = document.getElementById("patterns");
const rows = new Rows(form, "pattern-row");
const PATH = "/api/crawler/config/docx-tag-patterns";

const store = {
  async load() {
    const { patterns } = await api("GET", PATH);
    show(patterns);
  },
  async save(read) {
    await api("PUT", PATH, { patterns: read() });
    await this.load();
  },
};
const show = bind(form, store, {
  fill: (patterns) => rows.fill(patterns),
  read: () => rows.values.map(({ pattern = "", ...rest }) => ({ pattern, ...rest })),
  fieldOf: (where) => rows.fieldOf(where, "patterns"),
  said: "Patterns saved",
});

async function load() {
  const failed = document.getElementById("patterns-failed");
  try {
    await store.load();
    failed.replaceChildren();
  } catch (error) {
    showFailure(failed, error, load);
  }
}

load();
