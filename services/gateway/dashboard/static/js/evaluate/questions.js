// One's own labelled questions: kept in a setting, written in a dialog, carried in and out as JSON.
import { api, url } from "../api.js";
import { announce, ask, during, el, showFailure } from "../ui.js";
import { glyph } from "../glyph.js";
import { details } from "../details.js";

const HITS = 12;
const LARGEST = 2 << 20; // bytes of a file
const EPISODES = 50; // of one question

export class Questions {
  /** `changed()` is called whenever there are others. */
  constructor(most, setting, changed) {
    Object.assign(this, { most, setting, changed, list: [], version: 0, loaded: false });
    this.body = document.getElementById("questions");
    this.file = document.getElementById("file");
    document.getElementById("add-question").addEventListener("click", () => this.#edit(null));
    document.getElementById("export").addEventListener("click", () => this.#export());
    document.getElementById("import").addEventListener("click", () => this.file.click());
    this.file.addEventListener("change", () => this.#import());
    this.#dialog();
  }

  async load() {
    try {
      const { value, version } = await api("GET", "/dashboard/parts/evaluate/questions");
      this.list = clean(value.questions ?? []).slice(0, this.most);
      this.version = version;
      this.loaded = true;
      this.#draw();
    } catch (error) {
      showFailure(this.body, error, () => this.load());
    }
    this.changed();
  }

  /** Keep another list; the present one stands where that fails. */
  async #keep(list) {
    const before = this.list;
    this.list = list;
    this.#draw();
    this.changed();
    try {
      const path = `/api/settings/${this.setting}?version=${this.version}`;
      this.version = (await api("PUT", path, { questions: list })).version;
      return true;
    } catch (error) {
      if (error.status === 403) {
        announce("Your key may not keep settings: these questions hold for this page, and can be exported", "bad");
        return true;
      }
      this.list = before;
      this.#draw();
      this.changed();
      const hint = error.status === 409 ? "Somebody else has changed the questions meanwhile; reload the page" : error.message;
      announce(`${hint}. Nothing was kept`, "bad");
      return false;
    }
  }

  #draw() {
    if (!this.list.length) {
      this.body.replaceChildren(
        el(
          "div",
          { class: "empty" },
          el("p", { class: "empty-title" }, "No questions yet"),
          el("div", { class: "empty-body" }, el("p", {}, "Write down what you would ask, and tick the episodes that answer it. A question that nothing should answer counts too: then silence is right.")),
        ),
      );
      return;
    }
    const rows = this.list.map((one, at) => {
      const count = one.episode_ids.length;
      const badge = el("span", { class: `badge ${count ? "" : "accent"}` }, count ? `${count} ${count === 1 ? "episode" : "episodes"}` : "silence is right");
      const button = (name, words, does) => {
        const made = el("button", { type: "button", class: "ghost", "aria-label": `${words}: ${one.question.slice(0, 80)}`, title: words });
        made.append(glyph(name));
        made.addEventListener("click", does);
        return made;
      };
      const edit = button("edit", "Change", () => this.#edit(at));
      const remove = button("delete", "Remove", () => this.#remove(at));
      return el("li", {}, el("span", { class: "question", dir: "auto" }, one.question), badge, edit, remove);
    });
    this.body.replaceChildren(el("ul", { class: "question-list", tabindex: "0", "aria-label": "Questions" }, ...rows));
  }

  async #remove(at) {
    const gone = this.list[at];
    if (await this.#keep(this.list.filter((_, other) => other !== at))) announce(`Removed: ${gone.question.slice(0, 60)}`);
    (this.body.querySelectorAll("[aria-label^=Remove]")[at] ?? document.getElementById("add-question")).focus();
  }

  // Writing one -------------------------------------------------------------------------------------

  #dialog() {
    this.text = document.getElementById("question-text");
    this.find = document.getElementById("question-find");
    this.hits = document.getElementById("question-hits");
    this.state = document.getElementById("question-state");
    const search = document.getElementById("question-search");
    const look = () => during(search, () => this.#search());
    search.addEventListener("click", look);
    this.find.addEventListener("keydown", (event) => {
      if (event.key !== "Enter") return;
      event.preventDefault();
      look();
    });
    this.hits.addEventListener("change", (event) => {
      const { value, checked } = event.target;
      if (checked) this.ticked.add(value);
      else this.ticked.delete(value);
      this.#say();
    });
  }

  #say(found = null) {
    const words = found === null ? "" : found ? `${found} found. ` : "Nothing found. ";
    const count = this.ticked.size;
    this.state.textContent = words + (count ? `${count} ticked.` : "None ticked: then silence is the right answer.");
  }

  #row(id, summary, about) {
    const box = el("input", { type: "checkbox", value: id });
    box.checked = this.ticked.has(id);
    const words = el("span", { class: "summary", dir: "auto" }, summary ?? "…");
    if (summary === null) details(id).then((one) => (words.textContent = one.summary), () => (words.textContent = `${id} is not there any more`));
    return el("li", {}, el("label", {}, box, words, about ? el("small", {}, about) : null));
  }

  async #search() {
    const words = this.find.value.trim() || this.text.value.trim();
    if (!words) return this.text.focus();
    const found = await api("POST", "/api/episodes/search", { query_text: words, top_k: HITS, floor: 0, count: false });
    const others = [...this.ticked].filter((id) => !found.results.some((one) => one.episode_id === id));
    this.hits.replaceChildren(
      ...others.map((id) => this.#row(id, null)),
      ...found.results.map((one) => this.#row(one.episode_id, one.summary.slice(0, 400), `${one.project} · ${one.timestamp.slice(0, 10)}`)),
    );
    this.#say(found.results.length);
  }

  async #edit(at) {
    const old = at === null ? { question: "", episode_ids: [] } : this.list[at];
    if (at === null && this.list.length >= this.most) return announce(`At most ${this.most} questions are kept`, "bad");
    this.text.value = old.question;
    this.find.value = "";
    this.ticked = new Set(old.episode_ids);
    this.hits.replaceChildren(...old.episode_ids.map((id) => this.#row(id, null)));
    this.#say();
    if (!(await ask("question-dialog"))) return;
    const question = { question: this.text.value.trim(), episode_ids: [...this.ticked].slice(0, EPISODES) };
    if (!question.question) return;
    const list = [...this.list];
    if (at === null) list.push(question);
    else list[at] = question;
    if (await this.#keep(list)) document.getElementById("announce").textContent = "The question is kept.";
  }

  // In and out --------------------------------------------------------------------------------------

  #export() {
    if (!this.list.length) return announce("There are no questions to export yet");
    const body = new Blob([JSON.stringify({ questions: this.list }, null, 2)], { type: "application/json" });
    const link = el("a", { href: URL.createObjectURL(body), download: "evaluation-questions.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  async #import() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file) return;
    if (file.size > LARGEST) return announce("This file is too large: at most 2 MB", "bad");
    let found;
    try {
      const value = JSON.parse(await file.text());
      found = clean(Array.isArray(value) ? value : value.questions);
    } catch {
      return announce('This is no file of questions: it holds {"questions": [{"question": "…", "episode_ids": ["ep_…"]}]}', "bad");
    }
    const known = new Set(this.list.map((one) => one.question));
    const fresh = found.filter((one) => !known.has(one.question));
    if (this.list.length + fresh.length > this.most) return announce(`At most ${this.most} questions are kept; this file has ${fresh.length}`, "bad");
    if (await this.#keep([...this.list, ...fresh])) announce(`${fresh.length} imported, ${found.length - fresh.length} known already`);
  }
}

/** What is a question of a list that somebody wrote; throws where it is no list. */
function clean(list) {
  if (!Array.isArray(list)) throw new TypeError("no list");
  return list
    .filter((one) => typeof one?.question === "string" && one.question.trim())
    .map((one) => ({
      question: one.question.trim().slice(0, 2000),
      episode_ids: (Array.isArray(one.episode_ids) ? one.episode_ids : []).filter((id) => typeof id === "string").slice(0, EPISODES),
    }));
}

export const episodeUrl = (id) => url(`/dashboard/episodes/${encodeURIComponent(id)}`);
