// Controls of the embedding: the share of the processor, the move to another model, pause and resume.
import { api } from "./api.js";
import { announce, ask, during } from "./ui.js";

const place = document.getElementById("embedding");
const renew = (...ids) => ids.forEach((id) => window.htmx.trigger(document.getElementById(id), "retry"));

place.addEventListener("click", async (event) => {
  const move = event.target.closest("[data-move]");
  if (move) {
    const paused = move.dataset.move === "pause";
    await during(move, async () => {
      await api("POST", `/api/episodes/reembed/${move.dataset.move}`);
      announce(paused ? "Paused" : "It goes on", "good");
      renew("move");
    });
    document.getElementById(paused ? "resume" : "pause")?.focus();
  }
  const choice = event.target.closest("[data-model]");
  if (choice) {
    const name = choice.dataset.model;
    document.getElementById("switch-name").textContent = name;
    document.getElementById("switch-fetch").hidden = choice.dataset.available === "yes";
    if (!(await ask("switch"))) return;
    await during(choice, async () => {
      await api("POST", "/api/embedding/model", { name }, { deadline: 600_000 });
      announce(`The move to ${name} has begun`, "good");
      renew("move", "models");
    });
  }
});

place.addEventListener("input", (event) => {
  if (event.target.id === "percent") document.getElementById("percent-shown").value = event.target.value;
});

place.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const given = new FormData(form);
  const cores = given.get("cores").split(",").map((one) => one.trim()).filter(Boolean).map(Number);
  if (given.get("kind") === "cores" && (!cores.length || cores.some((one) => !Number.isInteger(one) || one < 0))) {
    return announce("Write cores as numbers, separated by commas: 0, 1", "bad");
  }
  const share = given.get("kind") === "cores" ? { cores } : { percent: Number(given.get("percent")) };
  await during(form.querySelector("button"), async () => {
    const { workers } = await api("POST", "/api/embedding/cpu", share, { deadline: 120_000 });
    announce(`Applied: ${workers} ${workers === 1 ? "worker" : "workers"}`, "good");
    renew("cpu", "active");
  });
});

// Models can be chosen again once a move is over, and what is in use may be another one.
document.body.addEventListener("live:reembed", (event) => {
  if (event.detail.state !== "running") renew("models", "active");
});
