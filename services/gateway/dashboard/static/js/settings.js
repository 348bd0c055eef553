// Keys and backends: listed, made and revoked; and the appearance.
import { api } from "./api.js";
import { getAppearance, setAppearance } from "./appearance.js";
import { announce, ask, copy, during, el, localise, showFailure } from "./ui.js";

const badge = (text, tone = "") => el("span", { class: `badge ${tone}` }, text);

const time = (value, words) =>
  value ? el("time", { datetime: value, "data-relative": true }, value) : el("span", { class: "muted" }, words);

function table(label, heads, rows) {
  const head = el("tr", {}, ...heads.map((one) => el("th", { scope: "col" }, one)));
  return el(
    "div",
    { class: "table-wrap", tabindex: "0", role: "region", "aria-label": label },
    el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)),
  );
}

// Keys --------------------------------------------------------------------------------------------

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

// Backends ----------------------------------------------------------------------------------------

const backends = document.getElementById("backends");

function backendRow(one) {
  const well = one.configured && !one.reason;
  return el(
    "li",
    {},
    el(
      "div",
      { class: "row" },
      el("b", {}, one.name),
      badge(well ? "answers" : one.configured ? "does not answer" : "not configured", well ? "good" : one.configured ? "bad" : ""),
    ),
    one.reason ? el("p", { class: "muted" }, one.reason) : null,
    one.endpoints.length ? el("p", { class: "mono muted" }, one.endpoints.join(", ")) : null,
    one.models.length
      ? el("p", { class: "badges" }, ...one.models.slice(0, 12).map((name) => badge(name)), one.models.length > 12 ? badge(`+${one.models.length - 12}`) : null)
      : null,
  );
}

async function loadBackends() {
  try {
    const found = (await api("GET", "/api/backends")).backends;
    backends.replaceChildren(el("ol", { class: "rows tall-rows" }, ...found.map(backendRow)));
  } catch (error) {
    showFailure(backends, error, loadBackends);
  }
}

// Appearance --------------------------------------------------------------------------------------

const look = document.getElementById("look");
const mark = () => (look.querySelector(`[value="${getAppearance()}"]`).checked = true);
look.addEventListener("change", (event) => setAppearance(event.target.value));
document.body.addEventListener("appearance", mark);

mark();
loadKeys();
loadBackends();
