// Who writes summaries, how fast, and what that comes to.
import { showFailure } from "../ui.js";
import { bind } from "./form.js";
import { jsonl } from "./jsonl.js";
import { counted } from "./page.js";

const form = document.getElementById("summaries");
const NUMBERS = { per_minute: "u-per-minute", per_night: "u-per-night", together: "u-together", tries: "u-tries" };
const number = (key) => document.getElementById(NUMBERS[key]);
const model = document.getElementById("u-model");

/** What a pass comes to at most, in requests and minutes. */
function sum() {
  const { backend } = form.elements;
  document.getElementById("by-model").hidden = backend.value === "extractive";
  const requests = Math.ceil(Number(number("per_night").value) / Math.max(1, Number(number("together").value)));
  const minutes = Math.ceil(requests / Math.max(0.01, Number(number("per_minute").value)));
  document.getElementById("u-sum").textContent = `At most ${counted(requests, "request")} a pass, over ${counted(minutes, "minute")}. What fails or is left over keeps its extractive summary, and waits for the next pass.`;
}

const show = bind(form, jsonl, {
  fill({ summaries }) {
    form.elements.backend.value = summaries.backend;
    model.value = summaries.model ?? "";
    for (const key of Object.keys(NUMBERS)) number(key).value = summaries[key];
    sum();
  },
  read: (config) => ({
    ...config,
    summaries: {
      backend: form.elements.backend.value,
      model: model.value.trim() || null,
      ...Object.fromEntries(Object.keys(NUMBERS).map((key) => [key, Number(number(key).value)])),
    },
  }),
  fieldOf: (where) => {
    const key = where.split(".").at(-1);
    return key === "model" ? model : key in NUMBERS ? number(key) : null;
  },
});
form.addEventListener("input", sum);
jsonl.watch(show, (error, retry) => showFailure(document.getElementById("summaries-failed"), error, retry));
