// What can be done with one episode: supersede, delete, forget. Each is confirmed first, and says what it did.
import { api, url } from "./api.js";
import { announce, ask, during, el } from "./ui.js";

const place = document.getElementById("episode");
const id = () => place.querySelector("[data-episode]").dataset.episode;
const path = () => "/api/episodes/" + encodeURIComponent(id());

function reload() {
  window.htmx.trigger(document.getElementById("view"), "retry");
}

/** What stands in the episode's place once it is gone. */
function gone(title, ...more) {
  const panel = el(
    "section",
    { class: "panel", tabindex: "-1", "aria-label": title },
    el("div", { class: "panel-head" }, el("h2", {}, title)),
    ...more,
    el("p", { class: "more" }, el("a", { class: "button", href: url("/dashboard/episodes") }, "All episodes")),
  );
  place.replaceChildren(panel);
  panel.focus();
  announce(title, "good");
}

/** The receipt of a forgetting, fact by fact. */
function receipt(given) {
  const { proof } = given;
  const left = proof.by_id + proof.by_content + proof.vectors + proof.index;
  const facts = [
    ["Episodes removed", given.episodes.join(", ")],
    ["Vectors removed", String(given.vectors)],
    ["Kept away by", `${proof.blocklist} of ${given.blocked.length} entries of the blocklist`],
    ["Left in the store", `${proof.by_id} by id, ${proof.by_content} by content`],
    ["Left in the index", `${proof.index} episodes, ${proof.vectors} vectors`],
    ["Content hash", given.content_hash],
    ["At", new Date(given.forgotten_at).toLocaleString()],
  ];
  const whole = left === 0 && proof.blocklist === given.blocked.length;
  return [
    el(
      "p",
      { class: `notice ${whole ? "good" : "bad"}` },
      whole
        ? "Counted in the store after the removal: nothing is left of it."
        : "Something is left. Forget it once more; if that does not help, look at the log of the memory service.",
    ),
    el("dl", { class: "facts more" }, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", { class: "mono" }, value)])),
  ];
}

const ACTS = {
  async supersede(button) {
    const form = await ask("supersede");
    if (!form) return;
    const body = { episode_ids: [id()], superseded_by: form.get("by").trim() };
    await during(button, async () => {
      await api("POST", "/api/episodes/supersede", body);
      announce("Marked as superseded", "good");
      reload();
    });
  },
  async unsupersede(button) {
    await during(button, async () => {
      await api("POST", "/api/episodes/unsupersede", { episode_ids: [id()] });
      announce("It is current again", "good");
      reload();
    });
  },
  async delete(button) {
    const form = await ask("delete");
    if (!form) return;
    await during(button, async () => {
      const kept = form.has("block");
      await api("DELETE", `${path()}?block=${kept}`);
      gone("Deleted", el("p", {}, kept ? "It does not come back with the next ingest." : "It may come back with the next ingest."));
    });
  },
  async forget(button) {
    if (!(await ask("forget"))) return;
    await during(button, async () => gone("Forgotten", ...receipt(await api("POST", `${path()}/forget`, undefined, { deadline: 300_000 }))));
  },
};

place.addEventListener("click", (event) => {
  const button = event.target.closest("[data-act]");
  if (button) ACTS[button.dataset.act](button);
});
