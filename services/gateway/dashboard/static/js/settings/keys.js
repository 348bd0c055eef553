// Keys: listed, made and revoked.
import { api } from "../api.js";
import { announce, ask, copy, during, el, localise, showFailure } from "../ui.js";
import { badge, mayEdit, table } from "./page.js";

const time = (value, words) =>
  value ? el("time", { datetime: value, "data-relative": true }, value) : el("span", { class: "muted" }, words);

const SCOPES = { read: "read", write: "write", admin: "administer", service: "service" };
const keys = document.getElementById("keys");

function keyRow(key) {
  const revoke = el("button", { type: "button", class: "small danger", "aria-label": `Revoke ${key.name}` }, "Revoke");
  revoke.addEventListener("click", async () => {
    document.getElementById("revoke-name").textContent = key.name;
    if (!(await ask("revoke-key"))) return;
    await during(revoke, async () => {
      await api("DELETE", "/api/keys/" + encodeURIComponent(key.key_id));
      announce(`${key.name} is revoked`, "good");
      await loadKeys();
    });
  });
  return el(
    "tr",
    {},
    el("th", { scope: "row", class: "model" }, key.name, key.kind === "browser" ? badge("browser") : null),
    el("td", {}, badge(SCOPES[key.scope] ?? key.scope, key.scope === "admin" ? "warn" : "")),
    el("td", {}, time(key.created_at, "–")),
    el("td", {}, time(key.last_used, "never")),
    el("td", {}, time(key.expires_at, "no end")),
    el("td", { class: "num" }, revoke),
  );
}

async function loadKeys() {
  try {
    const found = (await api("GET", "/api/keys")).keys;
    keys.replaceChildren(
      found.length
        ? table("API keys", ["Name", "May", "Made", "Last used", "Ends", ""], found.map(keyRow))
        : el("p", { class: "muted" }, "There is no key but the first one, which lies in the data directory. Make one for each program."),
    );
    localise(keys);
  } catch (error) {
    showFailure(keys, error, loadKeys);
  }
}

const newKey = document.getElementById("new-key");
newKey.hidden = !mayEdit;
newKey.addEventListener("click", async () => {
  const form = await ask("make-key");
  if (!form) return;
  const days = form.get("days");
  const wish = { name: form.get("name").trim(), scope: form.get("scope"), ...(days && { expires_in_days: Number(days) }) };
  const made = await during(newKey, () => api("POST", "/api/keys", wish));
  if (!made) return;
  const text = document.getElementById("made-key-text");
  text.textContent = made.key;
  const dialog = document.getElementById("made-key");
  dialog.addEventListener("close", () => (text.textContent = ""), { once: true });
  dialog.showModal();
  loadKeys();
});
document.getElementById("copy-key").addEventListener("click", () =>
  copy(document.getElementById("made-key-text").textContent),
);

loadKeys();
