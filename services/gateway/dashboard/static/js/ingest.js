// Begins a run of the reader.
import { api } from "./api.js";
import { announce, ask, during } from "./ui.js";

const PANELS = ["progress", "outcome", "coverage"];

async function begin(button, anew) {
  await during(button, async () => {
    const { started } = await api("POST", "/api/jsonl/ingest", { anew });
    announce(started ? "Reading has begun" : "A run was under way already", started ? "good" : "plain");
    for (const id of PANELS) window.htmx.trigger(document.getElementById(id), "retry");
  });
}

document.getElementById("start").addEventListener("click", (event) => begin(event.currentTarget, false));
document.getElementById("anew").addEventListener("click", async (event) => {
  const button = event.currentTarget;
  if (await ask("read-anew")) await begin(button, true);
});
