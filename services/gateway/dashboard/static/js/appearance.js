// Dark or light: the reader's choice, kept in this browser, else the system's. `body` gets `appearance` when it changes.

const KEY = "anamnesis-theme";
const system = matchMedia("(prefers-color-scheme: dark)");
const changed = () => document.body.dispatchEvent(new CustomEvent("appearance"));

/** `dark`, `light` or `system`. */
export const getAppearance = () => document.documentElement.dataset.theme ?? "system";

export function setAppearance(value) {
  if (value === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
  try {
    if (value === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, value);
  } catch {
    // Storage may be forbidden; then the choice holds for this page.
  }
  changed();
}

export const isDark = () => (getAppearance() === "system" ? system.matches : getAppearance() === "dark");

system.addEventListener("change", changed);
