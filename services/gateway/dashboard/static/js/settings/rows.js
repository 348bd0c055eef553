// A list of small rows that are edited in place: cloned from a template, added, removed, read back.
import { words } from "./page.js";

let made = 0;

export class Rows {
  /** `form` holds `[data-rows]`, `[data-none]` and `[data-add-row]`; fields carry `data-key`, lists of words `tags`. */
  constructor(form, template, lists = ["tags"]) {
    this.form = form;
    this.template = document.getElementById(template);
    this.lists = lists;
    this.place = form.querySelector("[data-rows]");
    form.querySelector("[data-add-row]")?.addEventListener("click", () => {
      this.add({});
      this.changed();
      this.rows.at(-1).querySelector("[data-key]").focus();
    });
    this.place.addEventListener("click", (event) => {
      const remove = event.target.closest("[data-remove-row]");
      if (!remove) return;
      remove.closest("li").remove();
      this.changed();
      (this.form.querySelector("[data-add-row]") ?? this.form).focus();
    });
  }

  get rows() {
    return [...this.place.children];
  }

  changed() {
    this.form.querySelector("[data-none]").hidden = this.rows.length > 0;
    this.form.dispatchEvent(new Event("input"));
  }

  add(value) {
    const row = this.template.content.firstElementChild.cloneNode(true);
    for (const field of row.querySelectorAll("[data-key]")) {
      field.id = `row-${(made += 1)}`;
      const given = value[field.dataset.key];
      if (field.type === "checkbox") field.checked = Boolean(given);
      else if (given != null) field.value = Array.isArray(given) ? given.join(", ") : String(given);
    }
    this.place.append(row);
  }

  fill(values) {
    this.place.replaceChildren();
    for (const one of values) this.add(one);
    this.form.querySelector("[data-none]").hidden = values.length > 0;
  }

  /** What the rows say; a field that is empty is left out. */
  get values() {
    return this.rows.map((row) => {
      const value = {};
      for (const field of row.querySelectorAll("[data-key]")) {
        const key = field.dataset.key;
        if (field.type === "checkbox") value[key] = field.checked;
        else if (this.lists.includes(key)) value[key] = words(field.value);
        else if (field.value.trim()) value[key] = field.type === "number" ? Number(field.value) : field.value.trim();
      }
      return value;
    });
  }

  /** The field that an error's place (`body.patterns.2.tags.0`) means. */
  fieldOf(where, list) {
    const found = where.match(new RegExp(`(?:^|\\.)${list}\\.(\\d+)(?:\\.(\\w+))?`));
    const row = found && this.rows[Number(found[1])];
    return row ? (row.querySelector(`[data-key="${found[2]}"]`) ?? row.querySelector("[data-key]")) : null;
  }
}
