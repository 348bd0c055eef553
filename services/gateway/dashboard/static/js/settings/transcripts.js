// Directories of transcripts, how often they are looked at, and those that were found and are not read yet.
import { announce, during, el, showFailure } from "../ui.js";
import { bind } from "./form.js";
import { jsonl } from "./jsonl.js";
import { mayEdit } from "./page.js";
import { Rows } from "./rows.js";

const form = document.getElementById("roots");
const poll = document.getElementById("t-poll");
const suggestions = document.getElementById("suggestions");
const rows = new Rows(form, "root-row");

const show = bind(form, jsonl, {
  fill(config, answer) {
    rows.fill(config.roots.map((path) => ({ path })));
    poll.value = config.poll_seconds;
    document.getElementById("roots-default").hidden = answer.version > 0;
  },
  read: (config) => ({ ...config, roots: rows.values.map(({ path = "" }) => path), poll_seconds: Number(poll.value) }),
  fieldOf: (where) => (where.includes("poll_seconds") ? poll : rows.fieldOf(where, "roots")),
  // A directory that may not be read is named in the words alone.
  fallback: ({ message }) => rows.rows.map((row) => row.querySelector("[data-key]")).find((field) => message.includes(`'${field.value.trim()}'`)) ?? null,
});

function suggest(_, { found }) {
  suggestions.replaceChildren(
    ...found.map((path) => {
      const take = el("button", { type: "button", class: "small primary" }, "Read it");
      take.addEventListener("click", () =>
        during(take, async () => {
          await jsonl.save((config) => ({ ...config, roots: [...config.roots, path] }));
          announce(`${path} is read from now on`, "good");
        }),
      );
      return el("div", { class: "notice suggestion" }, el("p", {}, "Claude Code keeps transcripts in ", el("code", {}, path), ", which is not read yet."), mayEdit ? take : null);
    }),
  );
}

jsonl.watch(
  (config, answer) => {
    show(config, answer);
    suggest(config, answer);
  },
  (error, retry) => showFailure(document.getElementById("roots-failed"), error, retry),
);
