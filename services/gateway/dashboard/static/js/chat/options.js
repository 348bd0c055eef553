// How a turn is asked: with memory or without, from where it is recalled, and who answers, in which order.
import { api } from "../api.js";
import { el } from "../ui.js";
import { glyph } from "../glyph.js";
import { choices } from "../storage.js";

export class Options {
  constructor(form) {
    this.form = form;
    this.backends = null; // BackendState[], once known
    this.order = []; // [{name, model, on}], for an order of one's own
    const kept = choices.get("chat-options") ?? {};
    for (const [name, value] of Object.entries(kept.fields ?? {})) {
      const field = form.elements[name];
      if (!field) continue;
      if (field.type === "checkbox") field.checked = value === true;
      else field.value = String(value);
    }
    this.keptOrder = Array.isArray(kept.order) ? kept.order : [];
    form.addEventListener("input", () => this.#changed());
    form.addEventListener("change", () => this.#changed());
    form.addEventListener("submit", (event) => event.preventDefault());
    this.#summary();
  }

  /** Who could answer. `null` where the gateway does not say. */
  async load() {
    try {
      this.backends = (await api("GET", "/api/backends", undefined, { deadline: 20_000 })).backends;
    } catch {
      this.backends = null; // a turn says by itself what is wrong
    }
    const known = new Map((this.backends ?? []).filter((one) => one.configured).map((one) => [one.name, one]));
    const kept = this.keptOrder.filter((one) => known.has(one.name));
    const rest = [...known.keys()].filter((name) => !kept.some((one) => one.name === name));
    this.order = [...kept, ...rest.map((name) => ({ name, model: "", on: true }))];
    this.#draw();
    this.#summary();
    this.#suggest();
    return this.backends;
  }

  /** True where it is known that nobody can answer. */
  get nobody() {
    return this.backends !== null && !this.backends.some((one) => one.configured);
  }

  /** The fields of a ChatRequest. */
  get request() {
    const { project, instance, floor, top_k: topK, memory } = this.form.elements;
    const request = { memory: memory.checked };
    if (project.value.trim()) request.project = project.value.trim();
    if (instance.value.trim()) request.instance = instance.value.trim();
    if (floor.value !== "" && floor.validity.valid) request.floor = Number(floor.value);
    if (topK.value !== "" && topK.validity.valid) request.top_k = Number(topK.value);
    if (this.#own) {
      const chosen = this.order.filter((one) => one.on).map((one) => (one.model ? `${one.name}:${one.model}` : one.name));
      if (chosen.length) request.backends = chosen;
    }
    return request;
  }

  get #own() {
    return this.form.elements.who.value === "own" && this.order.length > 0;
  }

  #changed() {
    const fields = {};
    for (const name of ["memory", "project", "instance", "floor", "top_k", "who"]) {
      const field = this.form.elements[name];
      fields[name] = field.type === "checkbox" ? field.checked : field.value;
    }
    choices.set("chat-options", { fields, order: this.order.length ? this.order : this.keptOrder });
    this.#summary();
  }

  #summary() {
    const { memory, project, instance } = this.form.elements;
    const scope = [project.value.trim(), instance.value.trim()].filter(Boolean).join(" on ");
    const words = memory.checked ? `Memory${scope ? ` of ${scope}` : ""}` : "No memory";
    const request = this.request;
    const first = (this.backends ?? []).find((one) => one.configured)?.name;
    const who = request.backends?.[0] ?? first;
    document.getElementById("options-words").textContent = who ? `${words} · ${who}` : words;
    this.form.querySelector(".own-order").hidden = !this.#own;
    for (const field of this.form.querySelectorAll("[data-memory]")) field.disabled = !memory.checked;
  }

  #draw() {
    const configured = (this.backends ?? []).filter((one) => one.configured).map((one) => one.name);
    const hint = this.form.querySelector(".configured-order");
    hint.textContent = configured.length ? configured.join(", then ") : "as the gateway is set";
    this.form.querySelector(".who").hidden = configured.length === 0;
    this.form.querySelector(".own-order").replaceChildren(...this.order.map((one, at) => this.#row(one, at)));
  }

  #row(one, at) {
    const state = this.backends.find((other) => other.name === one.name);
    const on = el("input", { type: "checkbox", "aria-label": `Ask ${one.name}` });
    on.checked = one.on;
    on.addEventListener("change", () => (one.on = on.checked));
    const model = el("select", { "aria-label": `Model of ${one.name}` }, el("option", { value: "" }, "its default model"));
    for (const name of state.models) model.append(el("option", { value: name }, name));
    model.value = state.models.includes(one.model) ? one.model : "";
    model.addEventListener("change", () => (one.model = model.value));
    const move = (step, name, words) => {
      const button = el("button", { type: "button", class: "ghost", "aria-label": `${words} ${one.name}`, title: words });
      button.append(glyph(name));
      button.disabled = !this.order[at + step];
      button.addEventListener("click", () => {
        [this.order[at], this.order[at + step]] = [this.order[at + step], this.order[at]];
        this.#draw();
        this.#changed();
        const rows = this.form.querySelectorAll(".own-order li");
        (rows[at + step].querySelector(`[data-step="${step}"]:enabled`) ?? rows[at + step].querySelector("button:enabled"))?.focus();
      });
      button.dataset.step = step;
      return button;
    };
    const name = el("label", { class: "check" }, on, el("span", {}, one.name));
    const why = state.reason ? el("small", { class: "warn-text" }, state.reason) : null;
    return el("li", {}, name, model, move(-1, "earlier", "Ask earlier:"), move(1, "later", "Ask later:"), why);
  }

  /** Projects and instances that are known, as suggestions. */
  async #suggest() {
    try {
      const stats = await api("GET", "/api/episodes/stats");
      for (const [id, rows] of [["chat-projects", stats.projects], ["chat-instances", stats.instances]]) {
        document.getElementById(id).replaceChildren(...rows.slice(0, 200).map((one) => el("option", { value: one.name })));
      }
      document.body.dispatchEvent(new CustomEvent("chat:stats", { detail: stats }));
    } catch {
      // Suggestions only.
    }
  }
}
