// The side panel: what was put before the model for one turn, and why; and whether it was of use.
import { api, url } from "../api.js";
import { announce, el, localise } from "../ui.js";
import { glyph } from "../glyph.js";

const TRUST = {
  user: ["your words", ""],
  assistant: ["an assistant's words", ""],
  tool: ["a tool's words", ""],
  web: ["from the web", "warn"],
};
const said = new Map(); // episode id -> helpful, as said on this page

export class RecallPanel {
  constructor(element) {
    this.element = element;
    this.view = null;
  }

  /** Show a turn's; none = nothing is chosen. */
  show(view) {
    this.view?.element.classList.remove("selected");
    this.view = view;
    const body = this.element.querySelector(".recall-body");
    const about = this.element.querySelector(".recall-about");
    if (!view) {
      about.textContent = "";
      return body.replaceChildren(
        el("p", { class: "muted" }, "Before each turn, what bears on it is looked up in the memory and put before the model. It is shown here, with the reasons."),
      );
    }
    view.element.classList.add("selected");
    const { recall, turn } = view;
    const time = recall?.milliseconds == null ? "" : ` · ${Math.round(recall.milliseconds)} ms`;
    about.textContent = turn.turn ? `Turn ${turn.turn}${time}` : "This turn";
    if (!recall) return body.replaceChildren(el("p", { class: "muted" }, turn.remember === false ? OFF : "Looking it up…"));
    if (recall.error) {
      return body.replaceChildren(
        note("warn", "warning", "Memory could not be asked", `${recall.error}. The turn went on without it; the next one asks again.`),
      );
    }
    if (!recall.episodes.length) {
      if (turn.remember === false) return body.replaceChildren(el("p", { class: "muted" }, OFF));
      if (!recall.abstained) {
        return body.replaceChildren(note("", "silence", "Nothing was recalled", "Nothing that was remembered then bore on this turn."));
      }
      return body.replaceChildren(
        note("", "silence", "Silence: nothing relevant is remembered", "Nothing lay above the floor, and silence is better than a wrong memory."),
      );
    }
    const most = Math.max(...recall.episodes.map((one) => one.score), 0);
    const over = turn.state && turn.state !== "running";
    body.replaceChildren(
      el("ol", { class: "recalled-list" }, ...recall.episodes.map((one) => this.#episode(one, most, over ? turn.used ?? [] : null))),
    );
    localise(body);
  }

  #episode(one, most, used) {
    const [whose, tone] = TRUST[one.trust] ?? [one.trust, ""];
    const badges = el("p", { class: "badges" }, el("span", { class: "badge accent" }, one.project), el("span", { class: `badge ${tone}` }, whose));
    if (used) {
      const yes = used.includes(one.episode_id);
      badges.append(el("span", { class: `badge ${yes ? "good" : ""}` }, yes ? "used in the answer" : "not used"));
    }
    const summary = el("p", { class: "recalled-summary", dir: "auto" }, one.summary);
    const link = el("a", { href: url(`/dashboard/episodes/${encodeURIComponent(one.episode_id)}`) }, el("time", { datetime: one.timestamp }, one.timestamp));
    const item = el(
      "li",
      { class: "recalled" },
      el("div", { class: "recalled-head" }, link, this.#thumbs(one.episode_id)),
      badges,
      summary,
      el("p", { class: "muted small-text recalled-source" }, `${one.instance} · ${one.source}`),
      why(one, most),
    );
    if (one.summary.length > 260) {
      summary.classList.add("clamped");
      const more = el("button", { type: "button", class: "link" }, "Show all");
      more.addEventListener("click", () => {
        more.textContent = summary.classList.toggle("clamped") ? "Show all" : "Show less";
      });
      summary.after(more);
    }
    return item;
  }

  #thumbs(id) {
    const make = (helpful, name, words) => {
      const button = el("button", { type: "button", class: "ghost", "aria-label": words, title: words, "aria-pressed": String(said.get(id) === helpful) });
      button.append(glyph(name));
      button.addEventListener("click", async () => {
        button.disabled = true;
        try {
          await api("POST", "/api/feedback", { episode_ids: [id], helpful });
          said.set(id, helpful);
          for (const other of group.children) other.setAttribute("aria-pressed", String(other === button));
          announce(helpful ? "Noted: it was helpful" : "Noted: it was not helpful");
        } catch (error) {
          announce(`${error.message}. Nothing was noted`, "bad");
        }
        button.disabled = false;
        button.focus();
      });
      return button;
    };
    const group = el("div", { class: "thumbs", role: "group", "aria-label": "Was this helpful?" });
    group.append(make(true, "up", "This was helpful"), make(false, "down", "This was not helpful"));
    return group;
  }
}

const OFF = "Memory was off for this turn: nothing was looked up, and the exchange is not remembered.";

function note(tone, icon, title, text) {
  return el("div", { class: `notice ${tone}` }, glyph(icon), el("div", {}, el("p", {}, el("b", {}, title)), el("p", {}, text)));
}

/** A score and its terms, each with a bar as long as its share of the highest score. */
function why(one, most) {
  const rows = (one.reasons ?? []).filter((reason) => reason.contribution);
  const head = el("p", { class: "score" }, "Score ", el("b", {}, one.score.toFixed(3)));
  if (!rows.length) return head;
  const list = rows.map((reason) => {
    const bar = el("span", { class: `term-bar ${reason.contribution < 0 ? "minus" : ""}`, "aria-hidden": "true" }, el("i"));
    bar.firstChild.style.width = `${most ? Math.min(100, (100 * Math.abs(reason.contribution)) / most) : 0}%`;
    const title = `${reason.value.toFixed(3)} × ${reason.weight.toFixed(3)}`;
    return el("li", { title }, el("span", {}, reason.term), bar, el("span", { class: "num" }, reason.contribution.toFixed(3)));
  });
  return el("div", { class: "why" }, head, el("ul", { class: "reasons" }, ...list));
}
