// What the pages of settings share: whether anything may be changed, small pieces, and errors beside their fields.
import { el } from "../ui.js";

/** Whether the reader's key may change what is here; who may not sees it all the same. */
export const mayEdit = document.getElementById("settings").dataset.may === "edit";

export const badge = (text, tone = "") => el("span", { class: `badge ${tone}` }, text);

export function table(label, heads, rows) {
  const head = el("tr", {}, ...heads.map((one) => el("th", { scope: "col" }, one)));
  return el(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}

/** A button that exists only for who may press it. */
export function button(words, act, { kind = "small", label = null } = {}) {
  if (!mayEdit) return null;
  const one = el("button", { type: "button", class: kind, "aria-label": label }, words);
  one.addEventListener("click", () => act(one));
  return one;
}

/** Words between commas or on lines of their own. */
export const words = (text) => [...new Set(text.split(/[,\n]/).map((one) => one.trim()).filter(Boolean))];

/** Patterns, one a line: they may hold commas. */
export const lines = (text) => [...new Set(text.split("\n").map((one) => one.trim()).filter(Boolean))];

export const counted = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

export function size(bytes) {
  const [unit, name] = [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]].find(([least]) => bytes >= least) ?? [1, "B"];
  const amount = bytes / unit;
  return `${amount < 10 && unit > 1 ? amount.toFixed(1) : Math.round(amount)} ${name}`;
}

/** Take the errors off all fields of a form. */
export function clearErrors(form) {
  for (const one of form.querySelectorAll(".field-error")) one.remove();
  for (const one of form.querySelectorAll("[aria-invalid]")) {
    one.removeAttribute("aria-invalid");
    one.removeAttribute("aria-describedby");
  }
}

/** Say an error beside its field. */
export function markField(field, text) {
  const id = `${field.id || field.name}-error`;
  const line = el("p", { class: "field-error", id, role: "alert" }, text);
  field.setAttribute("aria-invalid", "true");
  field.setAttribute("aria-describedby", id);
  (field.closest(".field") ?? field.parentElement).append(line);
}

/** Mark the fields that the browser itself finds wrong; gives whether there is one. */
export function invalid(form) {
  const wrong = [...form.elements].filter((one) => one.willValidate && !one.checkValidity());
  for (const one of wrong) markField(one, one.validationMessage);
  wrong[0]?.closest("details")?.setAttribute("open", "");
  wrong[0]?.focus();
  return wrong.length > 0;
}

/** Where an error lies and why, as the services tell it in `detail`. */
export function places(error) {
  const told = Array.isArray(error.detail) ? error.detail : error.detail?.where ? [error.detail] : [];
  return told.filter((one) => one?.where).map((one) => ({ where: String(one.where), why: String(one.why ?? error.message) }));
}

/**
 * Show what was refused: each problem beside the field that `fieldOf(where, why)` finds, the rest in the form's own
 * line (`.form-error`). `fallback` is the field of an error that names no place.
 */
export function showErrors(form, error, fieldOf, fallback = null) {
  clearErrors(form);
  const rest = [];
  let first = null;
  for (const { where, why } of places(error)) {
    const field = fieldOf(where, why);
    if (field) markField(field, why.replace(/^Value error, /, ""));
    else rest.push(`${where}: ${why}`);
    first ??= field;
  }
  if (!first && fallback && !rest.length) {
    markField(fallback, error.message);
    first = fallback;
  } else if (!first && !rest.length) {
    rest.push(error.message);
  }
  if (rest.length) form.querySelector(".form-error").replaceChildren(el("p", { class: "field-error", role: "alert" }, rest.join("; ")));
  if (first) {
    first.closest("details")?.setAttribute("open", "");
    first.focus();
  }
}
