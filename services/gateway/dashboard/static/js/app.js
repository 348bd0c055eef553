// What every page does: keys, navigation, appearance, panels that load themselves, the event stream.
import { isDark, setAppearance } from "./appearance.js";
import { api, csrf, failure, login, url } from "./api.js";
import { listen } from "./live.js";
import { announce, copy, during, localise, showFailure } from "./ui.js";

// Panels ------------------------------------------------------------------------------------------

let running = 0;

function busy(change) {
  running = Math.max(0, running + change);
  document.documentElement.classList.toggle("is-busy", running > 0);
}

document.addEventListener("htmx:configRequest", (event) => {
  if (event.detail.verb !== "get") event.detail.headers["X-CSRF-Token"] = csrf();
});
document.addEventListener("htmx:beforeRequest", (event) => {
  event.target.setAttribute("aria-busy", "true");
  busy(1);
});
document.addEventListener("htmx:afterRequest", (event) => {
  event.target.removeAttribute("aria-busy");
  busy(-1);
});

/** A panel that could not be fetched at all: say so in its place. What it showed before stays where it is newer data that failed. */
function broken(event, error) {
  const target = event.detail.target ?? event.target;
  if (!target.querySelector(":scope > .skeleton, :scope > .failure") && target.childElementCount) {
    return announce(error.message, "bad");
  }
  showFailure(target, error, () => window.htmx.trigger(event.detail.elt, "retry"));
}

document.addEventListener("htmx:responseError", (event) => {
  const { status, responseText } = event.detail.xhr;
  if (status === 401) return login();
  broken(event, failure(status, responseText));
});
document.addEventListener("htmx:sendError", (event) => broken(event, failure(0, "")));
document.addEventListener("htmx:timeout", (event) => broken(event, failure(0, "")));
document.addEventListener("htmx:beforeSwap", (event) => {
  // A login page that came by a redirect is a page, not a part of one.
  if (event.detail.xhr.responseURL && new URL(event.detail.xhr.responseURL).pathname.endsWith("/login")) {
    event.detail.shouldSwap = false;
    login();
  }
});
document.addEventListener("htmx:load", (event) => localise(event.detail.elt));

document.addEventListener("click", (event) => {
  const retry = event.target.closest("[data-retry]");
  if (retry) window.htmx.trigger(retry.closest("[hx-get]"), "retry");
  const copied = event.target.closest("[data-copy]");
  if (copied) copy(copied.dataset.copy);
  const closes = event.target.closest("dialog [data-close]");
  if (closes) closes.closest("dialog").close("");
});

// Keys --------------------------------------------------------------------------------------------

const typing = (target) => target.closest("input, textarea, select, [contenteditable]");

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !typing(event.target) && !document.querySelector("dialog[open]")) {
    event.preventDefault();
    const field = document.querySelector("[data-search]") ?? document.getElementById("quick");
    field.focus();
    field.select();
  }
});

const nav = document.getElementById("nav");
nav.addEventListener("keydown", (event) => {
  const links = [...nav.querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 }[event.key];
  if (at < 0 || to === undefined) return;
  event.preventDefault();
  links[(to + links.length) % links.length].focus();
});

document.addEventListener("keydown", (event) => {
  const row = event.target.closest(".episodes .episode");
  const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
  if (!row || !step || event.ctrlKey || event.metaKey || event.altKey) return;
  const rows = [...row.closest(".episodes").querySelectorAll(".episode")];
  const next = rows[rows.indexOf(row) + step];
  if (next) {
    event.preventDefault();
    next.focus();
  }
});

// Navigation on a narrow screen -------------------------------------------------------------------

const menu = document.querySelector("button.menu");

function openMenu(open) {
  menu.setAttribute("aria-expanded", String(open));
  document.documentElement.classList.toggle("nav-open", open);
  if (open) nav.querySelector("[aria-current], a").focus();
}

menu.addEventListener("click", () => openMenu(menu.getAttribute("aria-expanded") !== "true"));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && menu.getAttribute("aria-expanded") === "true") {
    openMenu(false);
    menu.focus();
  }
});
document.addEventListener("click", (event) => {
  if (menu.getAttribute("aria-expanded") === "true" && !event.target.closest("#nav, button.menu")) openMenu(false);
});

document.querySelector("[data-theme-switch]").addEventListener("click", () => {
  setAppearance(isDark() ? "light" : "dark");
  announce(isDark() ? "Dark" : "Light");
});

document.querySelector("[data-logout]")?.addEventListener("click", (event) =>
  during(event.currentTarget, async () => {
    await api("POST", "/logout");
    location.assign(url("/login"));
  }),
);

localise(document);
setInterval(() => document.hidden || localise(document), 30_000); // “in 5 minutes” does not stay true
listen();
