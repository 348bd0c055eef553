// The chat page: one conversation at a time, kept by the gateway; the address names it, so that a reload keeps it.
import { api, Failure, url } from "./api.js";
import { glyph } from "./glyph.js";
import { Log } from "./chat/log.js";
import { Options } from "./chat/options.js";
import { RecallPanel } from "./chat/recall.js";
import { SessionList } from "./chat/sessions.js";
import { drafts } from "./storage.js";
import { events } from "./chat/stream.js";
import { Title } from "./chat/title.js";
import { TurnView } from "./chat/turn.js";
import { announce, el, showFailure } from "./ui.js";

const PAGE = 30; // turns that are fetched at once
const FRAME = 33; // ms between two times that what has arrived is written
const LOOKS = [400, 1000, 2000, 4000]; // ms between two looks at how a turn that was left has been kept

const page = document.querySelector("main");
const turns = document.getElementById("turns");
const earlier = document.getElementById("earlier");
const later = document.getElementById("later");
const message = document.getElementById("message");
const send = document.getElementById("send");
const stop = document.getElementById("stop");
const log = new Log(document.getElementById("log"), document.getElementById("jump"));
const options = new Options(document.getElementById("options"));
const recall = new RecallPanel(document.getElementById("recall"));
const sessions = new SessionList(document.getElementById("sessions"), (id, turn) => go(id, turn));
const title = new Title(document.querySelector(".page-head"), {
  renamed: (session) => {
    conversation.session = session;
    sessions.put(session, false);
  },
  deleted: (id) => {
    sessions.remove(id);
    go(null);
  },
});

/** What is shown: a session (none = one that begins with the next question) and a stretch of its turns. */
let conversation = { session: null, id: null, views: [], total: 0, running: null };
const writing = new Set(); // conversations whose answers are being written, also those that are not looked at
const TOGETHER = 3; // answers at a time: browsers allow about six connections an origin

// Which conversation --------------------------------------------------------------------------------

const address = (id, turn = null) => url("/chat") + (id ? `?session=${encodeURIComponent(id)}${turn ? `&turn=${turn}` : ""}` : "");

function go(id, turn = null) {
  history.pushState(null, "", address(id, turn));
  show(id, turn);
  closeDrawers();
}

addEventListener("popstate", () => fromAddress());

function fromAddress() {
  const query = new URLSearchParams(location.search);
  return show(query.get("session"), Number(query.get("turn")) || null);
}

async function show(id, turn = null) {
  keepDraft();
  const under = id && !turn ? [...writing].find((one) => one.id === id) : null;
  const mine = (conversation = under ?? { session: null, id, views: [], total: 0, running: null });
  turns.replaceChildren();
  buttons();
  earlier.hidden = later.hidden = true;
  recall.show(null);
  title.show(null);
  sessions.mark(id);
  restoreDraft();
  welcome(!id);
  if (!id) return log.toStart();
  if (under) {
    const views = under.views.splice(0);
    quietly(() => add(views));
    title.show(under.session);
    recall.show(under.running.view);
    return log.toEnd();
  }
  turns.replaceChildren(el("div", { class: "skeleton", role: "status" }, el("span", { class: "visually-hidden" }, "Loading"), ...Array.from({ length: 5 }, () => el("span", { class: "bone" }))));
  try {
    const before = turn ? `&before=${turn + Math.ceil(PAGE / 2)}` : "";
    const found = await api("GET", `/api/chat/sessions/${encodeURIComponent(id)}?limit=${PAGE}${before}`);
    if (mine !== conversation) return;
    mine.session = found.session;
    mine.total = found.total;
    title.show(found.session);
    turns.replaceChildren();
    quietly(() => add(found.turns.map((one) => kept(one))));
    const chosen = mine.views.find((one) => one.number === turn);
    recall.show(chosen ?? mine.views.at(-1) ?? null);
    if (chosen) {
      log.toElement(chosen.element);
    } else {
      log.toEnd();
      if (matchMedia("(pointer: fine)").matches) message.focus({ preventScroll: true });
    }
    mine.views.filter((one) => one.turn.state === "running").forEach((one) => settle(mine, one));
  } catch (error) {
    if (mine !== conversation) return;
    if (error.status === 404) {
      turns.replaceChildren(
        el("div", { class: "notice warn" }, glyph("warning"), el("div", {}, el("p", {}, el("b", {}, "This conversation is not there any more")), el("p", {}, "It may have been deleted. Choose another one, or begin a new one below."))),
      );
      mine.id = null;
      history.replaceState(null, "", address(null));
    } else showFailure(turns, error, () => show(id, turn));
  }
}

const hooks = {
  select: (view, open) => {
    recall.show(view);
    if (open) openDrawer("recall");
  },
  again: (text) => ask(text),
};

function kept(turn) {
  const view = new TurnView(turn, hooks);
  view.finish(turn);
  return view;
}

/** Changes that a screen reader should not read out: turns from before. */
function quietly(change) {
  turns.setAttribute("aria-live", "off");
  change();
  requestAnimationFrame(() => turns.setAttribute("aria-live", "polite"));
}

function add(views, at = "end") {
  if (at === "end") {
    turns.append(...views.map((one) => one.element));
    conversation.views.push(...views);
  } else {
    turns.prepend(...views.map((one) => one.element));
    conversation.views.unshift(...views);
  }
  const first = conversation.views[0]?.number ?? 1;
  const last = conversation.views.at(-1)?.number ?? 0;
  earlier.hidden = first <= 1;
  later.hidden = last >= conversation.total;
}

/** Fetch the stretch before or after what is shown. */
async function extend(button, direction) {
  const mine = conversation;
  if (button.disabled || button.hidden || !mine.session) return;
  button.disabled = true;
  try {
    const first = mine.views[0].number;
    const last = mine.views.at(-1).number;
    const before = direction === "before" ? first : last + PAGE + 1;
    const path = `/api/chat/sessions/${encodeURIComponent(mine.session.session_id)}?limit=${PAGE}&before=${before}`;
    const found = await api("GET", path);
    if (mine !== conversation) return;
    const fresh = found.turns.filter((one) => (direction === "before" ? one.turn < first : one.turn > last)).map(kept);
    mine.total = found.total;
    quietly(() => {
      if (direction === "before") log.keeping(mine.views[0].element, () => add(fresh, "start"));
      else add(fresh);
      if (!fresh.length) button.hidden = true;
    });
  } catch (error) {
    announce(error.message, "bad");
  } finally {
    button.disabled = false;
  }
}

earlier.addEventListener("click", () => extend(earlier, "before"));
later.addEventListener("click", () => extend(later, "after"));
new IntersectionObserver(([entry]) => entry.isIntersecting && extend(earlier, "before"), {
  root: log.element,
  rootMargin: "300px 0px 0px",
}).observe(earlier);

/** Look at a turn that somebody else writes, or that was left, until it is over. */
async function settle(mine, view) {
  for (let look = 0; ; look += 1) {
    await new Promise((done) => setTimeout(done, LOOKS[Math.min(look, LOOKS.length - 1)]));
    if (mine !== conversation || mine.running?.view === view) return;
    if (document.hidden) continue;
    let found;
    try {
      const path = `/api/chat/sessions/${encodeURIComponent(mine.session.session_id)}?limit=1&before=${view.number + 1}`;
      found = (await api("GET", path)).turns[0];
    } catch (error) {
      if (error instanceof Failure && error.status === 404) return;
      continue;
    }
    if (mine !== conversation || found?.turn !== view.number) return;
    view.finish(found);
    if (recall.view === view) recall.show(view);
    log.grown();
    if (found.state !== "running") return;
  }
}

// Asking --------------------------------------------------------------------------------------------

async function ask(text) {
  if (conversation.running) return announce("An answer is still being written: stop it first");
  if (!text.trim()) return message.focus();
  if (writing.size >= TOGETHER) return announce("Other answers are still being written: wait for one, or stop it", "bad");
  if (options.nobody) return announce("No model is connected yet; how to connect one is said above", "bad");
  if (!later.hidden && conversation.session) {
    await show(conversation.session.session_id); // from the middle of a long conversation to its end
    if (!conversation.session) return;
  }
  const mine = conversation;
  const request = { message: text, ...options.request };
  if (mine.session) request.session_id = mine.session.session_id;
  const view = new TurnView({ asked: text.trim(), remember: request.memory }, hooks);
  const controller = new AbortController();
  mine.running = { controller, view };
  writing.add(mine);
  welcome(false);
  turns.append(view.element);
  mine.views.push(view);
  view.begin();
  recall.show(view);
  log.toEnd();
  buttons();
  try {
    await read(mine, view, request, controller.signal);
  } catch (error) {
    if (controller.signal.aborted) view.stop();
    else view.fail(error);
    if (view.number) mine.session && settle(mine, view);
    else if (mine === conversation && !message.value) {
      message.value = text; // it was never kept: nothing of what was typed is lost
      resize();
      keepDraft();
    }
  } finally {
    mine.running = null;
    writing.delete(mine);
    if (mine === conversation) {
      buttons();
      view.say();
      if (recall.view === view) recall.show(view);
      log.grown();
    }
  }
}

/** Take the events of one turn; what it says is written in strides, not in letters. */
async function read(mine, view, request, signal) {
  let waiting = "";
  let timer = null;
  const flush = () => {
    timer = null;
    if (!waiting) return;
    const text = waiting;
    waiting = "";
    view.write(text);
    log.grown();
  };
  try {
    for await (const { name, data } of events("/api/chat/stream", request, signal)) {
      const value = JSON.parse(data);
      if (name === "session") begun(mine, view, value);
      else if (name === "recalled") view.remembered(value);
      else if (name === "backend") view.answeredBy(value);
      else if (name === "thinking") view.think(value.text);
      else if (name === "delta") {
        waiting += value.text;
        timer ??= setTimeout(flush, FRAME);
      } else if (name === "done") {
        flush();
        view.finish(value.turn);
        return;
      } else if (name === "error") {
        const { code, message: words, detail } = value.error;
        throw new Failure(words.charAt(0).toUpperCase() + words.slice(1), 502, code, detail);
      }
      if (name !== "delta") {
        log.grown();
        if (recall.view === view && name === "recalled") recall.show(view);
      }
    }
    throw new Failure("The answer broke off; what had been said is kept", 0);
  } finally {
    clearTimeout(timer);
    flush();
  }
}

function begun(mine, view, { session_id: id, turn, title: name }) {
  view.begun({ turn });
  mine.total = turn;
  const now = new Date().toISOString();
  const { project, instance } = options.request;
  const known = mine.session ?? { session_id: id, titles: [], created_at: now, project: project ?? null, instance: instance ?? null };
  mine.session = { ...known, title: name, turns: turn, updated_at: now };
  mine.id = id;
  if (mine === conversation) {
    title.show(mine.session);
    if (new URLSearchParams(location.search).get("session") !== id) history.replaceState(null, "", address(id));
    sessions.current = id;
  }
  sessions.put(mine.session);
}

/** Send, or stop while an answer is written here; the focus is not lost with the button that had it. */
function buttons() {
  const on = conversation.running !== null;
  const lost = document.activeElement === send || document.activeElement === stop;
  send.hidden = on;
  stop.hidden = !on;
  if (lost) message.focus({ preventScroll: true });
}

stop.addEventListener("click", () => {
  conversation.running?.controller.abort();
  message.focus({ preventScroll: true });
});
addEventListener("pagehide", keepDraft);

// The field -----------------------------------------------------------------------------------------

function resize() {
  message.style.height = "auto";
  message.style.height = `${Math.min(message.scrollHeight + 2, 260)}px`;
}

const draftKey = () => `chat-draft-${conversation.id ?? "new"}`;

function keepDraft() {
  drafts.set(draftKey(), message.value);
}

function restoreDraft() {
  message.value = drafts.get(draftKey()) ?? "";
  resize();
}

message.addEventListener("input", () => {
  resize();
  keepDraft();
});
message.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && conversation.running) return conversation.running.controller.abort();
  // While a word is composed (Japanese, Chinese), Enter takes the word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  submit();
});
document.getElementById("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  submit();
});

function submit() {
  const text = message.value;
  if (conversation.running) return announce("An answer is still being written: stop it first");
  if (!text.trim() || options.nobody) return ask(text);
  message.value = "";
  keepDraft(); // under the name that the conversation has now
  resize();
  ask(text);
}

// What is said where there is nothing yet -------------------------------------------------------------

function welcome(on) {
  document.getElementById("welcome").hidden = !on || options.nobody;
  document.getElementById("setup").hidden = !options.nobody || !on;
  document.getElementById("setup-note").hidden = !options.nobody || on;
}

document.body.addEventListener("chat:stats", ({ detail }) => {
  const count = detail.episodes;
  document.getElementById("welcome-stats").textContent = count
    ? `${count.toLocaleString()} ${count === 1 ? "episode is" : "episodes are"} remembered, of ${detail.projects.length.toLocaleString()} ${detail.projects.length === 1 ? "project" : "projects"}.`
    : "Nothing is remembered yet: each turn of this chat will be, and the page Ingest shows how to read transcripts.";
});

async function backends() {
  const states = await options.load();
  for (const row of document.querySelectorAll("#setup [data-backend]")) {
    const state = (states ?? []).find((one) => one.name === row.dataset.backend);
    row.querySelector(".setup-reason").textContent = state?.reason ?? "";
  }
  message.disabled = send.disabled = options.nobody;
  message.placeholder = options.nobody ? "Connect a model first" : "Ask anything";
  welcome(!conversation.id && !conversation.views.length);
}

for (const button of document.querySelectorAll("[data-look-again]")) {
  button.addEventListener("click", async () => {
    await backends();
    announce(options.nobody ? "Still no model is connected" : "A model is connected");
  });
}

// Side columns on narrow screens, the options ------------------------------------------------------------

function openDrawer(name) {
  if (page.dataset.drawer === name) return;
  page.dataset.drawer = name;
  for (const button of document.querySelectorAll("button[data-drawer]")) {
    button.setAttribute("aria-expanded", String(button.dataset.drawer === name));
  }
}

function closeDrawers(focus = false) {
  const was = page.dataset.drawer;
  if (!was) return;
  delete page.dataset.drawer;
  for (const button of document.querySelectorAll("button[data-drawer]")) button.setAttribute("aria-expanded", "false");
  if (focus) document.querySelector(`.page-head [data-drawer="${was}"]`)?.focus();
}

document.addEventListener("click", (event) => {
  const opens = event.target.closest("button[data-drawer]");
  if (opens) return page.dataset.drawer === opens.dataset.drawer ? closeDrawers() : openDrawer(opens.dataset.drawer);
  if (event.target.closest("[data-drawer-close]")) closeDrawers(true);
  const popover = document.getElementById("options-box");
  if (popover.open && !event.target.closest("#options-box") && event.target.isConnected) popover.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const popover of document.querySelectorAll("details.popover[open]")) {
    popover.open = false;
    popover.querySelector("summary").focus();
    return;
  }
  closeDrawers(true);
});
document.getElementById("new-chat").addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(null);
  message.focus();
});

sessions.load();
backends();
fromAddress();
