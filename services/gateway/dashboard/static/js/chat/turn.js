// One turn as it stands in the conversation: what was asked, the answer as it grows, and how it ended.
import { announce, copy, el, localise } from "../ui.js";
import { glyph } from "../glyph.js";
import { Markdown, render } from "./markdown.js";

const FOLD = 1500; // characters of a question beyond which it is folded
const STATES = {
  stopped: ["stopped", "warn", "Stopped before it was over. What had been said is kept."],
  failed: ["failed", "bad", "The answer did not come to its end."],
};

export class TurnView {
  /** `turn` is a ChatTurn, or what is known of one that begins. `hooks`: select(view), again(message). */
  constructor(turn, hooks) {
    this.hooks = hooks;
    this.turn = turn;
    this.recall = turn.recalled ? { episodes: turn.recalled, abstained: false, error: null } : null;
    this.tried = [];
    this.source = turn.answered ?? ""; // the answer as Markdown, for copying
    this.markdown = null;
    this.answered = el("div", { class: "answered", dir: "auto" });
    this.thinking = el("details", { class: "thinking", hidden: true }, el("summary", {}, "Thinking"));
    this.thoughts = el("p", { dir: "auto" });
    this.thinking.append(this.thoughts);
    this.waiting = el("p", { class: "waiting", hidden: true }, el("span", { class: "pulse", "aria-hidden": "true" }));
    this.waitingText = el("span");
    this.waiting.append(this.waitingText);
    this.problem = el("div", { class: "problem", hidden: true });
    this.foot = el("footer", { class: "turn-foot" });
    this.element = el(
      "article",
      { class: "turn" },
      question(turn.asked),
      el("div", { class: "answer" }, el("h3", { class: "visually-hidden" }, "Answer"), this.thinking, this.answered, this.waiting),
      this.problem,
      this.foot,
    );
    this.#number();
    this.element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-copy-code]");
      if (button) copy(button.closest(".code").querySelector("code").textContent);
    });
  }

  #number() {
    const { turn } = this.turn;
    if (!turn) return;
    this.element.id = `turn-${turn}`;
    this.element.setAttribute("aria-label", `Turn ${turn}`);
  }

  get number() {
    return this.turn.turn;
  }

  /** Whether nothing will change here by itself. */
  get over() {
    return !this.markdown && this.turn.state !== "running";
  }

  // While it is written -----------------------------------------------------------------------------

  begin() {
    this.markdown = new Markdown(this.answered);
    this.element.setAttribute("aria-busy", "true");
    this.element.classList.add("growing");
    this.wait(this.turn.remember === false ? "Asking" : "Remembering");
    this.#footing();
  }

  wait(text) {
    this.waiting.hidden = !text;
    this.waitingText.textContent = text ? `${text}…` : "";
  }

  begun({ turn }) {
    this.turn = { ...this.turn, turn };
    this.#number();
  }

  remembered(recall) {
    this.recall = recall;
    this.wait("Asking");
    this.#footing();
  }

  answeredBy({ backend, model, attempts }) {
    this.turn = { ...this.turn, backend, model };
    this.tried = attempts.filter((one) => one.error);
    this.wait("Answering");
    this.#footing();
  }

  think(text) {
    if (this.thinking.hidden) {
      this.thinking.hidden = false;
      this.wait("Thinking");
    }
    this.thoughts.append(text);
  }

  write(text) {
    this.wait("");
    this.source += text;
    this.markdown.write(text);
  }

  // When it is over ---------------------------------------------------------------------------------

  /** The turn as it is kept. What has been written stands; only what was never seen here is written now. */
  finish(turn) {
    this.turn = turn;
    if (turn.recalled?.length || !this.recall) {
      this.recall = { ...(this.recall ?? { abstained: false, error: null }), episodes: turn.recalled ?? [] };
    }
    if (this.markdown && turn.answered !== this.source && turn.answered?.startsWith(this.source)) {
      this.markdown.write(turn.answered.slice(this.source.length));
    } else if (!this.markdown || turn.answered !== this.source) {
      // Never seen here, or kept otherwise than it was said: a secret was taken out of it.
      this.markdown = null;
      this.answered.replaceChildren();
      if (turn.state === "running") this.answered.append(el("p", { class: "plain" }, turn.answered ?? ""));
      else render(this.answered, turn.answered ?? "");
    }
    this.source = turn.answered ?? "";
    this.#settle();
    if (turn.state === "running") this.wait("Still being written");
    else if (STATES[turn.state]) this.#complain(turn.error ?? STATES[turn.state][2], turn.state);
    else if (turn.stop_reason === "length") this.#complain("It ends here because it reached its greatest length.", "length");
    else if (turn.stop_reason === "refused") this.#complain("The model declined to answer this.", "refused");
  }

  /** It ended here, and what is kept of it is not known (yet). */
  stop() {
    this.turn = { ...this.turn, state: "stopped", answered: this.source };
    this.#settle();
    this.#complain(STATES.stopped[2], "stopped");
  }

  fail(error) {
    this.turn = { ...this.turn, state: "failed", answered: this.source };
    this.#settle();
    const attempts = Array.isArray(error.detail) ? error.detail.filter((one) => one?.error) : this.tried;
    this.#complain(error.message, "failed", attempts);
  }

  #settle() {
    this.markdown?.end();
    this.markdown = null;
    this.wait("");
    this.element.removeAttribute("aria-busy");
    this.element.classList.remove("growing");
    this.thinking.querySelector("summary").textContent = "What it thought";
    this.#footing();
  }

  #complain(text, kind, attempts = []) {
    const message = text.replace(/([^.!?…])$/, "$1.");
    const list = attempts.map((one) => el("li", {}, el("b", {}, place(one)), ` ${one.error}`));
    const again = el("button", { type: "button", class: "small" }, glyph("again"), kind === "length" ? "Go on" : "Ask again");
    again.addEventListener("click", () => this.hooks.again(kind === "length" ? "Go on." : this.turn.asked));
    this.problem.className = `problem ${kind}`;
    this.problem.replaceChildren(
      el("div", {}, el("p", {}, message), list.length ? el("ul", { class: "attempts" }, ...list) : null),
      again,
    );
    this.problem.hidden = false;
  }

  // Below it ----------------------------------------------------------------------------------------

  #footing() {
    const { turn, state, backend, model, finished_at: at, usage } = this.turn;
    const recalled = el("button", { type: "button", class: "recalled-button small", "aria-controls": "recall" });
    recalled.append(glyph("memory"), this.recallWords());
    recalled.disabled = !this.recall;
    recalled.addEventListener("click", () => this.hooks.select(this, true));
    const parts = [recalled];
    if (STATES[state]) parts.push(el("span", { class: `badge ${STATES[state][1]}` }, STATES[state][0]));
    if (backend) {
      const name = model && model !== backend ? `${backend} · ${model}` : backend;
      parts.push(el("span", { class: "who", title: tokens(usage) }, name));
    }
    if (this.tried.length) {
      const list = this.tried.map((one) => el("li", {}, el("b", {}, place(one)), ` ${one.error}`));
      const words = `${this.tried.length} tried before`;
      parts.push(el("details", { class: "tried" }, el("summary", {}, words), el("ul", { class: "attempts" }, ...list)));
    }
    if (at) parts.push(el("time", { datetime: at, "data-relative": true }, ""));
    if (this.source && state && state !== "running") {
      const button = el("button", { type: "button", class: "ghost", "aria-label": `Copy the answer of turn ${turn}`, title: "Copy" });
      button.append(glyph("copy"));
      button.addEventListener("click", () => copy(this.source));
      parts.push(button);
    }
    this.foot.replaceChildren(...parts);
    localise(this.foot);
  }

  /** What was recalled, in a few words. */
  recallWords() {
    if (!this.recall) return this.turn.remember === false ? "Without memory" : "Remembering";
    const { episodes, error } = this.recall;
    if (error) return "Memory was away";
    if (!episodes.length) return this.turn.remember === false ? "Without memory" : "Nothing recalled";
    const used = this.turn.used?.length;
    return `${episodes.length} recalled` + (used ? `, ${used} used` : "");
  }

  /** For those who listen instead of looking. */
  say() {
    const { state } = this.turn;
    const words = { complete: "The answer is complete", stopped: "Stopped", failed: "The answer failed" }[state];
    document.getElementById("announce").textContent = `${words ?? ""}. ${this.recallWords()}.`;
    if (state === "failed") announce(this.problem.querySelector("p")?.textContent ?? "The answer failed", "bad");
  }
}

function question(text) {
  const words = el("div", { class: "asked-text", dir: "auto" }, text);
  const box = el("div", { class: "asked" }, el("h3", { class: "visually-hidden" }, "You asked"), words);
  if (text.length > FOLD) {
    words.classList.add("folded");
    const more = el("button", { type: "button", class: "small ghost", "aria-expanded": "false" }, "Show all");
    more.addEventListener("click", () => {
      const folded = words.classList.toggle("folded");
      more.textContent = folded ? "Show all" : "Show less";
      more.setAttribute("aria-expanded", String(!folded));
    });
    box.append(more);
  }
  return box;
}

const place = (attempt) => [attempt.backend, attempt.endpoint].filter(Boolean).join(", ") + ":";

function tokens(usage) {
  if (!usage) return null;
  const { input_tokens: read, output_tokens: written } = usage;
  return [read != null && `${read} tokens read`, written != null && `${written} written`].filter(Boolean).join(", ");
}
