// A configuration with a version: read once for all editors of a page, written only over what was read.
import { api } from "../api.js";
import { announce, el } from "../ui.js";

export class Versioned {
  /** `path` is read and written; `pick` finds the configuration in what is read. */
  constructor(path, pick = (answer) => answer.config) {
    this.path = path;
    this.pick = pick;
    this.answer = null; // as it was read last
    this.watchers = [];
    this.loading = null;
  }

  get config() {
    return this.pick(this.answer);
  }

  /** Call `show(config, answer)` now and after every change, `failed(error, retry)` where it cannot be read. */
  watch(show, failed) {
    this.watchers.push({ show, failed });
    if (this.answer) show(this.config, this.answer);
    else this.load();
  }

  /** Read it again; editors that asked at the same moment share one answer. */
  load() {
    this.loading ??= api("GET", this.path)
      .then(
        (answer) => {
          this.answer = answer;
          for (const one of this.watchers) one.show(this.config, answer);
        },
        (error) => {
          if (this.answer) announce(error.message, "bad");
          else for (const one of this.watchers) one.failed(error, () => this.load());
        },
      )
      .finally(() => (this.loading = null));
    return this.loading;
  }

  /** Write `change(config)` over the version that was read. Throws what was refused; a 409 is a `conflict`. */
  async save(change, { path = this.path, body = (config) => config } = {}) {
    const wish = change(structuredClone(this.config));
    await api("PUT", `${path}?version=${this.answer.version}`, body(wish));
    await this.load();
  }
}

export const conflict = (error) => error.status === 409;

/** What is said where somebody else was quicker, with the way to see what they wrote. `reload` gets it. */
export function conflictNotice(reload) {
  const button = el("button", { type: "button", class: "small" }, "Load the newer settings");
  const notice = el(
    "div",
    { class: "notice warn", role: "alert" },
    el("div", {}, el("p", {}, el("b", {}, "Somebody else changed this meanwhile.")), el("p", {}, "Nothing of yours was saved. Load what they wrote, and save again what is still needed."), el("p", { class: "more" }, button)),
  );
  button.addEventListener("click", async () => {
    await reload();
    notice.remove();
  });
  return notice;
}
