// Up to four ways to search, as their cards are filled in; kept in this browser.
import { api } from "../api.js";
import { choices } from "../storage.js";

const FIRST = [{ name: "As shipped" }, { name: "Changed" }];

export class Configurations {
  constructor(most) {
    this.most = most;
    this.body = document.getElementById("configurations");
    this.template = document.getElementById("configuration");
    this.add = document.getElementById("add-configuration");
    this.models = [];
    this.made = 0;
    const kept = choices.get("configurations");
    for (const one of Array.isArray(kept) && kept.length ? kept.slice(0, most) : FIRST) this.#card(one);
    this.add.addEventListener("click", () => {
      this.#card({ name: `Configuration ${this.body.children.length + 1}` }).querySelector("input").select();
      this.#keep();
    });
    this.body.addEventListener("change", () => this.#keep());
    this.#count();
  }

  async load() {
    try {
      const config = await api("GET", "/api/embedding/config");
      this.models = config.known.filter((one) => one.available && one.name !== config.active.name).map((one) => one.name);
      for (const select of this.body.querySelectorAll("select")) this.#offer(select, select.dataset.wanted);
    } catch {
      // Without them the model in use can be evaluated all the same.
    }
  }

  #offer(select, wanted) {
    const known = this.models.map((name) => Object.assign(document.createElement("option"), { value: name, textContent: name }));
    select.replaceChildren(select.options[0], ...known);
    select.value = this.models.includes(wanted) ? wanted : "";
  }

  #card(one) {
    const card = this.template.content.cloneNode(true).firstElementChild;
    const number = ++this.made;
    card.querySelector("legend").textContent = `Configuration ${number}`;
    for (const field of card.querySelectorAll("input, select")) {
      field.id = `configuration-${number}-${field.dataset.field ?? field.dataset.weight}`;
      field.parentElement.querySelector("label").htmlFor = field.id;
      const value = field.dataset.field ? one[field.dataset.field] : one.ranking?.[field.dataset.weight];
      if (value != null) field.value = value;
    }
    const select = card.querySelector("select");
    select.dataset.wanted = one.model ?? "";
    this.#offer(select, one.model);
    if (one.ranking) card.querySelector("details").open = true;
    const remove = card.querySelector("[data-remove]");
    remove.setAttribute("aria-label", `Remove configuration ${number}`);
    remove.addEventListener("click", () => {
      card.remove();
      this.#count();
      this.#keep();
      this.add.focus();
    });
    this.body.append(card);
    this.#count();
    return card;
  }

  #count() {
    this.add.disabled = this.body.children.length >= this.most;
    for (const button of this.body.querySelectorAll("[data-remove]")) button.disabled = this.body.children.length === 1;
  }

  /** As contracts; fields that are empty are left out. */
  get list() {
    return [...this.body.children].map((card, at) => {
      const of = (name) => card.querySelector(`[data-field="${name}"]`).value.trim();
      const one = { name: of("name") || `Configuration ${at + 1}` };
      if (of("model")) one.model = of("model");
      if (of("top_k") !== "") one.top_k = Number(of("top_k"));
      if (of("floor") !== "") one.floor = Number(of("floor"));
      const weights = [...card.querySelectorAll("[data-weight]")].filter((field) => field.value.trim() !== "");
      if (weights.length) one.ranking = Object.fromEntries(weights.map((field) => [field.dataset.weight, Number(field.value)]));
      return one;
    });
  }

  /** The first field that holds something impossible; none = all is well. Names have to differ, too. */
  get wrong() {
    const names = [...this.body.querySelectorAll('[data-field="name"]')];
    for (const field of names) {
      const twice = names.some((other) => other !== field && other.value.trim() === field.value.trim());
      field.setCustomValidity(twice ? "Each configuration needs a name of its own." : "");
    }
    return [...this.body.querySelectorAll("input")].find((field) => !field.validity.valid) ?? null;
  }

  #keep() {
    choices.set("configurations", this.list);
  }
}
