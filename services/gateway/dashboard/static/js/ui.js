// What pages show beside their content: announcements, dialogs, times of the reader's own zone, copying.

/** Say something to everybody: a toast for eyes, a live region for ears. `tone`: plain, good or bad. */
export function announce(text, tone = "plain") {
  document.getElementById("announce").textContent = text;
  const toast = el("div", { class: `toast ${tone}` }, el("span", {}, text));
  const close = el("button", { type: "button", class: "ghost", "aria-label": "Dismiss" }, "×");
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  const toasts = document.getElementById("toasts");
  toasts.append(toast);
  while (toasts.children.length > 4) toasts.firstElementChild.remove();
  if (tone !== "bad") setTimeout(() => toast.remove(), 6000);
}

/** An element with attributes and children; strings become text, never markup. */
export function el(name, attributes = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) one.setAttribute(key, "");
    else if (value !== false && value != null) one.setAttribute(key, value);
  }
  one.append(...children.filter((child) => child != null));
  return one;
}

/** Run `work` on behalf of a button: it is busy meanwhile, and what fails is said. Gives undefined after a failure. */
export async function during(button, work) {
  button.setAttribute("aria-busy", "true");
  button.disabled = true;
  try {
    return await work();
  } catch (error) {
    announce(error.message, "bad");
    return undefined;
  } finally {
    button.removeAttribute("aria-busy");
    button.disabled = false;
  }
}

/** Show an error and a way to try again in place of what could not be loaded. */
export function showFailure(target, error, retry) {
  const again = el("button", { type: "button", class: "small" }, "Try again");
  again.addEventListener("click", retry);
  target.replaceChildren(
    el(
      "div",
      { class: "failure", role: "alert" },
      el("div", {}, el("p", { class: "failure-title" }, "This could not be loaded"), el("p", {}, error.message), again),
    ),
  );
}

/** Copy text, on plain HTTP too, where browsers offer no clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = el("textarea", { class: "visually-hidden", readonly: true, "aria-hidden": "true" });
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  announce("Copied");
}

const absolute = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const STEPS = [
  [60, "second", 1],
  [3600, "minute", 60],
  [86_400, "hour", 3600],
  [30 * 86_400, "day", 86_400],
  [365 * 86_400, "month", 30 * 86_400],
  [Infinity, "year", 365 * 86_400],
];

/** How long ago, in words. */
export function relative(moment) {
  const seconds = (moment.getTime() - Date.now()) / 1000;
  const [, unit, size] = STEPS.find(([limit]) => Math.abs(seconds) < limit);
  if (unit === "second") return seconds > 5 ? "in a moment" : "just now";
  return ago.format(Math.round(seconds / size), unit);
}

/** How long ago, in words; with the date beside where that is asked for and the words say little. */
function since(one, moment) {
  const old = Date.now() - moment.getTime() > 6 * 86_400_000;
  return one.dataset.relative === "dated" && old ? `${relative(moment)}, ${day.format(moment)}` : relative(moment);
}

/** Write every <time> below `root` in the reader's zone. */
export function localise(root) {
  for (const one of root.querySelectorAll("time[datetime]")) {
    const moment = new Date(one.dateTime);
    if (Number.isNaN(moment.getTime())) continue;
    const whole = absolute.format(moment);
    const [text, title] = "relative" in one.dataset ? [since(one, moment), whole] : [whole, relative(moment)];
    if (one.textContent !== text) one.textContent = text;
    if (one.title !== title) one.title = title;
  }
}

/** Open a dialog by id; it closes by Escape, by its cancel button, and gives its form when that is sent. */
export function ask(id) {
  const dialog = document.getElementById(id);
  const form = dialog.querySelector("form");
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "go" ? new FormData(form) : null), {
      once: true,
    });
  });
}
