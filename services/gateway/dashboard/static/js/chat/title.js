// The conversation's title, changed in place, with those it had before; and what else can be done with a conversation.
import { api, url } from "../api.js";
import { announce, ask, el, localise } from "../ui.js";

const NEW = "New conversation";

export class Title {
  constructor(head, hooks) {
    this.heading = head.querySelector("h1");
    this.words = head.querySelector("#title-words");
    this.edit = head.querySelector("#title-edit");
    this.menu = head.querySelector("#session-menu");
    this.hooks = hooks;
    this.session = null;
    this.edit.addEventListener("click", () => this.#begin());
    this.menu.addEventListener("click", (event) => {
      if (event.target.closest("[data-rename]")) this.#begin();
      if (event.target.closest("[data-delete]")) this.#delete();
      if (event.target.closest("button, a")) this.menu.open = false;
    });
    document.addEventListener("click", (event) => {
      if (this.menu.open && !event.target.closest("#session-menu")) this.menu.open = false;
    });
  }

  show(session) {
    if (this.field && this.session?.session_id === session?.session_id) return; // it is being changed right now
    this.session = session;
    this.field?.remove();
    this.field = null;
    this.words.hidden = false;
    this.words.textContent = session?.title ?? NEW;
    document.title = `${session?.title ?? "Chat"} · Anamnesis`;
    this.edit.hidden = this.menu.hidden = !session;
    this.menu.open = false;
    if (!session) return;
    for (const link of this.menu.querySelectorAll("[data-export]")) {
      link.href = url(`/api/chat/sessions/${encodeURIComponent(session.session_id)}/export?format=${link.dataset.export}`);
    }
    const earlier = this.menu.querySelector(".earlier-titles");
    const titles = [...(session.titles ?? [])].reverse();
    earlier.hidden = !titles.length;
    earlier.querySelector("ul").replaceChildren(
      ...titles.map((one) => el("li", {}, el("span", {}, one.title), el("small", {}, "until ", el("time", { datetime: one.until }, one.until)))),
    );
    localise(earlier);
  }

  #begin() {
    if (this.field || !this.session) return;
    const session = this.session;
    const field = el("input", { class: "title-field", maxlength: "200", "aria-label": "Title of this conversation" });
    field.value = session.title;
    this.field = field;
    this.words.hidden = this.edit.hidden = true;
    this.heading.append(field);
    field.focus();
    field.select();
    let over = false;
    const end = async (save) => {
      if (over) return;
      over = true;
      const wanted = field.value.trim();
      field.remove();
      this.field = null;
      this.show(this.session);
      if (!save || !wanted || wanted === session.title || this.session?.session_id !== session.session_id) return;
      this.words.textContent = wanted;
      try {
        const path = `/api/chat/sessions/${encodeURIComponent(session.session_id)}/title`;
        const renamed = await api("PATCH", path, { title: wanted });
        this.hooks.renamed(renamed);
        if (this.session?.session_id === session.session_id) this.show(renamed);
        announce("Renamed");
      } catch (error) {
        announce(`${error.message}. The title is as it was`, "bad");
        if (this.session?.session_id === session.session_id) this.show(session);
      }
    };
    field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.isComposing) {
        event.preventDefault();
        end(true).then(() => this.edit.focus());
      } else if (event.key === "Escape") {
        event.stopPropagation();
        end(false);
        this.edit.focus();
      }
    });
    field.addEventListener("blur", () => end(true));
  }

  async #delete() {
    const session = this.session;
    document.getElementById("delete-title").textContent = session.title;
    if (!(await ask("delete-session"))) return;
    try {
      await api("DELETE", `/api/chat/sessions/${encodeURIComponent(session.session_id)}/delete`);
      announce("Deleted");
      this.hooks.deleted(session.session_id);
    } catch (error) {
      announce(`${error.message}. Nothing was deleted`, "bad");
    }
  }
}
