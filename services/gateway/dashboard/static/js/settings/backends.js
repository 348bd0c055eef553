// Who answers in chats, in the order they are asked in.
import { api } from "../api.js";
import { el, showFailure } from "../ui.js";
import { badge } from "./page.js";

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

loadBackends();
