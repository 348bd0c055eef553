// Documents that are handed in: dropped, chosen, or fetched from an address. One at a time, each with a line of its own.
import { api, url } from "../api.js";
import { announce, el } from "../ui.js";
import { upload } from "./upload.js";

const MOST_WAITING = 200;
const LINKS = 6; // parts that are linked without opening the list
const FETCHING = 180_000; // ms

const place = document.getElementById("hand-in");
const list = document.getElementById("handed");
const waiting = [];
let busy = false;

const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const counted = (count, one, many = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : many}`;

/** Project and tags as they stand when something is handed in; none where there is no project. */
function wishes() {
  const project = document.getElementById("h-project");
  if (!project.value.trim()) {
    project.reportValidity();
    project.focus();
    return null;
  }
  const words = document.getElementById("h-tags").value.split(",");
  const tags = [...new Set(words.map((one) => one.trim().replace(/^#/, "")).filter(Boolean))];
  return { project: project.value.trim(), tags };
}

function part(id, at) {
  return el("a", { href: url(`/dashboard/episodes/${encodeURIComponent(id)}`) }, String(at + 1));
}

/** What became of a document, in words and links. */
function told(done) {
  const found = [
    counted(done.episodes.length, "episode"),
    done.created < done.episodes.length ? `${done.created.toLocaleString()} new` : null,
    done.duplicate ? `${done.duplicate.toLocaleString()} known already` : null,
    done.blocked ? `${done.blocked.toLocaleString()} kept away` : null,
    done.redactions ? `${counted(done.redactions, "secret")} taken out` : null,
    done.pages ? counted(done.pages, "page") : null,
    counted(done.characters, "character"),
  ].filter(Boolean);
  const rest = done.episodes.slice(LINKS);
  return [
    done.title && done.title !== done.name ? el("p", {}, el("b", {}, done.title)) : null,
    el("p", { class: "muted small-text" }, found.join(", ")),
    done.truncated ? el("p", { class: "notice warn small-text" }, "A limit ended the reading before the document did; what was read until then is kept.") : null,
    done.episodes.length
      ? el("p", { class: "part-links small-text" }, el("span", { class: "muted" }, "Parts"), ...done.episodes.slice(0, LINKS).map(part))
      : el("p", { class: "small-text muted" }, "It holds no text that could be remembered."),
    rest.length
      ? el("details", {}, el("summary", {}, `${rest.length} more`), el("p", { class: "part-links small-text" }, ...rest.map((id, at) => part(id, at + LINKS))))
      : null,
  ];
}

/** The line of one document, and how it changes. */
class Line {
  constructor(name, about) {
    this.state = el("span", { class: "badge" }, "waits");
    this.body = el("div", { class: "handed-body" });
    this.button = el("button", { type: "button", class: "ghost small", "aria-label": `Do not hand in ${name}` }, "×");
    this.element = el("li", {}, el("div", { class: "row nowrap-row" }, el("b", { class: "handed-name", title: name }, name), el("span", { class: "muted small-text" }, about), this.state, this.button), this.body);
    list.hidden = false;
    list.prepend(this.element);
  }

  say(words, tone, ...body) {
    this.state.className = `badge ${tone}`;
    this.state.textContent = words;
    this.body.replaceChildren(...body.filter(Boolean));
  }
}

function enqueue(line, send) {
  const job = { line, send };
  line.button.onclick = () => {
    const at = waiting.indexOf(job);
    if (at >= 0) waiting.splice(at, 1);
    line.element.remove();
    list.hidden = !list.childElementCount;
  };
  line.say("waits", "");
  waiting.push(job);
  next();
}

async function next() {
  if (busy || !waiting.length) return;
  busy = true;
  const { line, send } = waiting.shift();
  const name = line.element.querySelector(".handed-name").textContent;
  const remove = line.button.onclick;
  try {
    const done = await send(line);
    line.say(done.created ? "remembered" : "known already", "good", ...told(done));
    announce(`${name}: ${counted(done.episodes.length, "episode")}`, "good");
  } catch (error) {
    if (error.code === "stopped") {
      line.element.remove();
      list.hidden = !list.childElementCount;
    } else {
      const again = el("button", { type: "button", class: "small" }, "Try again");
      again.addEventListener("click", () => enqueue(line, send));
      line.say("refused", "bad", el("p", { class: "small-text", role: "alert" }, error.message), again);
    }
  }
  line.button.onclick = remove;
  busy = false;
  next();
}

function handIn(files) {
  const wish = wishes();
  if (!wish) return;
  const most = Number(place.dataset.most);
  const taken = [...files].slice(0, MOST_WAITING - waiting.length);
  if (taken.length < files.length) announce(`At most ${MOST_WAITING} documents at a time; the rest was left out`, "bad");
  for (const file of taken) {
    const line = new Line(file.name, size(file.size));
    if (file.size > most) {
      line.say("too large", "bad", el("p", { class: "small-text", role: "alert" }, `A document may be ${size(most)} at most; this one is ${size(file.size)}.`));
      line.button.onclick = () => line.element.remove();
      continue;
    }
    enqueue(line, async () => {
      const form = new FormData();
      form.append("project", wish.project);
      for (const tag of wish.tags) form.append("tags", tag);
      form.append("file", file);
      const bar = el("progress", { max: "1", value: "0", "aria-label": `Sending ${file.name}` });
      line.say("sending", "accent", bar);
      const { answer, stop } = upload("/api/episodes/upload", form, (share) => {
        bar.value = share;
        if (share >= 1) {
          line.state.textContent = "reading";
          bar.removeAttribute("value"); // nobody tells how far the reading is
        }
      });
      line.button.onclick = stop;
      return answer;
    });
  }
}

if (place) {
  const drop = document.getElementById("drop");
  const file = document.getElementById("file");
  document.getElementById("choose").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    handIn(file.files);
    file.value = "";
  });
  const carries = (event) => event.dataTransfer?.types.includes("Files");
  let over = 0; // entering a child leaves its parent
  document.addEventListener("dragenter", (event) => carries(event) && drop.classList.toggle("over", (over += 1) > 0));
  document.addEventListener("dragleave", (event) => carries(event) && drop.classList.toggle("over", (over -= 1) > 0));
  document.addEventListener("dragover", (event) => carries(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carries(event)) return;
    event.preventDefault(); // a document that misses the zone must not replace the page
    over = 0;
    drop.classList.remove("over");
    handIn(event.dataTransfer.files);
  });
  document.getElementById("by-url").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = document.getElementById("h-url");
    const wish = wishes();
    if (!wish) return;
    const address = field.value.trim();
    enqueue(new Line(address, ""), (line) => {
      line.say("fetching", "accent", el("progress", { "aria-label": `Fetching ${address}` }));
      line.button.onclick = null;
      return api("POST", "/api/ingest-url", { url: address, ...wish }, { deadline: FETCHING });
    });
    field.value = "";
  });
}
