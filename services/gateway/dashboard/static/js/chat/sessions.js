// The list of conversations, newest first, and the search in all of them.
import { api, url } from "../api.js";
import { el, relative, showFailure } from "../ui.js";

const PAGE = 40;
const PAUSE = 250; // ms after the last key before a search is asked

export class SessionList {
  /** `open(id, turn)` is called for what is chosen. */
  constructor(element, open) {
    this.list = element.querySelector(".session-list");
    this.more = element.querySelector(".session-more");
    this.empty = element.querySelector(".session-empty");
    this.field = element.querySelector("input");
    this.open = open;
    this.sessions = [];
    this.total = 0;
    this.current = null;
    this.asked = 0; // answers to older searches are dropped
    this.more.addEventListener("click", () => this.load());
    let timer;
    this.field.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(() => this.#search(), PAUSE);
    });
    this.list.addEventListener("click", (event) => {
      const link = event.target.closest("a[data-session]");
      if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      this.open(link.dataset.session, link.dataset.turn ? Number(link.dataset.turn) : null);
    });
  }

  async load() {
    this.more.disabled = true;
    try {
      const page = await api("GET", `/api/chat/sessions?skip=${this.sessions.length}&limit=${PAGE}`);
      const known = new Set(this.sessions.map((one) => one.session_id));
      this.sessions.push(...page.sessions.filter((one) => !known.has(one.session_id)));
      this.total = page.total;
      this.#draw();
    } catch (error) {
      const item = el("li");
      showFailure(item, error, () => this.load());
      this.list.replaceChildren(item);
    }
    this.more.disabled = false;
  }

  /** A session has a new turn, another title, or is new. */
  put(session, first = true) {
    const at = this.sessions.findIndex((one) => one.session_id === session.session_id);
    if (at >= 0) this.sessions.splice(at, 1);
    else this.total += 1;
    if (first || at < 0) this.sessions.unshift(session);
    else this.sessions.splice(at, 0, session);
    this.#draw();
  }

  remove(id) {
    this.sessions = this.sessions.filter((one) => one.session_id !== id);
    this.total -= 1;
    this.#draw();
  }

  mark(id) {
    this.current = id;
    for (const link of this.list.querySelectorAll("a")) {
      if (link.dataset.session === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  #draw() {
    if (this.field.value.trim()) return; // what was searched for stays
    this.list.replaceChildren(...this.sessions.map((one) => this.#row(one)));
    this.more.hidden = this.sessions.length >= this.total;
    this.empty.textContent = this.sessions.length ? "" : "No conversations yet. The first question begins one.";
    this.mark(this.current);
  }

  #row(session, found = null) {
    const turn = found?.turn ?? null;
    const href = url(`/chat?session=${encodeURIComponent(session.session_id)}${turn ? `&turn=${turn}` : ""}`);
    const about = [relative(new Date(session.updated_at)), session.project].filter(Boolean).join(" · ");
    const link = el(
      "a",
      { href, "data-session": session.session_id, "data-turn": turn },
      el("span", { class: "session-title" }, session.title),
      found && turn ? el("span", { class: "session-excerpt" }, found.excerpt) : null,
      el("span", { class: "session-about" }, turn ? `Turn ${turn} · ${about}` : about),
    );
    return el("li", {}, link);
  }

  async #search() {
    const words = this.field.value.trim();
    const mine = ++this.asked;
    if (!words) return this.#draw();
    try {
      const found = await api("GET", `/api/chat/sessions/search?q=${encodeURIComponent(words.slice(0, 500))}&limit=40`);
      if (mine !== this.asked) return;
      this.list.replaceChildren(...found.results.map((one) => this.#row(one.session, one)));
      this.more.hidden = true;
      const count = found.results.length;
      this.empty.textContent = count
        ? `${count} found${found.complete ? "" : ", and there may be more: add a word"}.`
        : "Nothing found. All of the words have to occur in one turn or title.";
      this.mark(this.current);
    } catch (error) {
      if (mine === this.asked) this.empty.textContent = `${error.message}.`;
    }
  }
}
