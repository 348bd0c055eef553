// The map's page: the picture, its legend, and the list that says in words what it shows.
import { api, Failure, url } from "./api.js";
import { details } from "./details.js";
import { gestures } from "./map/gestures.js";
import { Picture, style, outline } from "./map/picture.js";
import { Points } from "./map/points.js";
import { el, localise, showFailure } from "./ui.js";

const DEADLINE = 300_000; // ms; a large store's first picture takes a while
const PAGE = 25; // rows of the list
const CALM = 120; // ms without a move before what is pointed at is fetched
const STILL = 300; // ms without a move before the list follows
const IN_LEGEND = 60;
const SVG = "http://www.w3.org/2000/svg";

const state = document.getElementById("map-state");
const computing = [...state.childNodes];

async function load(tries = 0) {
  state.replaceChildren(...computing);
  try {
    const map = await api("GET", "/api/episodes/map", undefined, { deadline: DEADLINE });
    if (!map.episode_id.length) return nothing();
    show(map);
  } catch (error) {
    // Still being computed elsewhere: it is asked for again, for some minutes.
    if (error instanceof Failure && [429, 503, 504].includes(error.status) && tries < 20) {
      setTimeout(() => load(tries + 1), Math.min(1000 * 2 ** tries, 15_000));
    } else showFailure(state, error, () => load());
  }
}

function nothing() {
  const box = el("div", { class: "empty" }, el("p", { class: "empty-title" }, "There is nothing to draw yet"));
  const step = el("a", { class: "button primary", href: url("/dashboard/ingest") }, "Read transcripts");
  box.append(el("div", { class: "empty-body" }, el("p", {}, "The map shows episodes that have been embedded. Let transcripts be read, or say something in the chat, and come back."), step));
  state.replaceChildren(box);
}

function show(map) {
  const points = new Points(map);
  const counts = new Uint32Array(map.projects.length);
  for (const one of points.project) counts[one] += 1;
  const ranked = [...counts.keys()].sort((a, b) => counts[b] - counts[a]);
  const styles = [];
  ranked.forEach((project, rank) => (styles[project] = style(rank)));
  const hidden = new Uint8Array(map.projects.length);
  const shown = (at) => hidden[points.project[at]] === 0;

  state.replaceChildren();
  state.hidden = true;
  document.getElementById("map-ready").hidden = false;
  document.getElementById("map-list").hidden = false;
  const some = points.count < map.total ? `${points.count.toLocaleString()} of ${map.total.toLocaleString()} episodes, a sample` : `${points.count.toLocaleString()} episodes`;
  document.getElementById("map-about").textContent = `${some} · ${map.model}`;

  const picture = new Picture(document.getElementById("map"), points, styles, shown);
  const list = new List(points, styles);
  const tip = new Tip(picture, points, styles);
  let still;
  const follow = () => {
    if (picture.chosen) return;
    clearTimeout(still);
    still = setTimeout(() => list.show("Episodes in view", points.where((at) => shown(at) && picture.inView(at))), STILL);
  };
  const lassoed = (found) => {
    picture.chosen = found ? new Uint8Array(points.count) : null;
    for (const at of found ?? []) picture.chosen[at] = 1;
    picture.draw();
    document.getElementById("list-clear").hidden = !found;
    if (found) list.show("Episodes in the lasso", found);
    else follow();
  };
  picture.moved = () => {
    tip.place();
    follow();
  };
  const open = (at, event) => {
    const address = url(`/dashboard/episodes/${encodeURIComponent(points.ids[at])}`);
    if (event.ctrlKey || event.metaKey || event.button === 1) globalThis.open(address, "_blank", "noopener");
    else location.assign(address);
  };
  const lasso = document.getElementById("lasso");
  const hands = gestures(picture, {
    hover: (at) => tip.show(at),
    tap: (at) => tip.show(at, { pinned: true }),
    open,
    lasso: (polygon) => lassoed(points.where((at) => shown(at) && points.within(at, polygon))),
    lassoing: (on) => lasso.setAttribute("aria-pressed", String(on)),
    step: (dx, dy) => {
      const from = picture.hovered >= 0 ? picture.hovered : points.nearest(...picture.centre, 4, shown);
      const at = picture.hovered >= 0 ? points.next(from, dx, dy, shown) : from;
      if (at < 0) return;
      picture.reveal(at);
      tip.show(at, { aloud: true });
    },
  });
  lasso.addEventListener("click", () => hands.toggleLasso());
  document.getElementById("zoom-in").addEventListener("click", () => picture.zoomBy(1.5));
  document.getElementById("zoom-out").addEventListener("click", () => picture.zoomBy(1 / 1.5));
  document.getElementById("zoom-all").addEventListener("click", () => picture.all());
  document.getElementById("list-clear").addEventListener("click", () => lassoed(null));
  document.body.addEventListener("appearance", () => {
    picture.recolour();
  });
  legend(points, ranked, counts, styles, hidden, () => {
    if (picture.hovered >= 0 && !shown(picture.hovered)) tip.show(-1);
    if (picture.chosen) lassoed(points.where((at) => picture.chosen[at] && shown(at)));
    picture.draw();
    follow();
  });
  follow();
}

/** The shape of a project's points, in its colour. */
function mark({ colour, shape }) {
  const svg = document.createElementNS(SVG, "svg");
  const path = document.createElementNS(SVG, "path");
  for (const [key, value] of Object.entries({ class: "mark", viewBox: "-6 -6 12 12", "aria-hidden": "true" })) svg.setAttribute(key, value);
  const words = [];
  outline(
    {
      arc: (_x, _y, r) => words.push(`M${-r} 0a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`),
      moveTo: (x, y) => words.push(`M${x} ${y}`),
      lineTo: (x, y) => words.push(`L${x} ${y}`),
      closePath: () => words.push("z"),
    },
    shape,
    4.4,
  );
  path.setAttribute("d", words.join(""));
  path.style.fill = `var(--m${colour})`;
  svg.append(path);
  return svg;
}

/** A button for each project: pressed = to be seen. With Shift, or when it alone is left, all others change. */
function legend(points, ranked, counts, styles, hidden, changed) {
  const buttons = ranked.slice(0, IN_LEGEND).map((project) => {
    const button = el("button", { type: "button", "aria-pressed": "true", title: `${points.names[project]} (with Shift: only this one)` });
    button.append(mark(styles[project]), el("span", { class: "legend-name" }, points.names[project]), el("span", { class: "count" }, counts[project].toLocaleString()));
    button.addEventListener("click", (event) => {
      if (event.shiftKey) {
        const alone = !hidden[project] && hidden.every((one, at) => one || at === project);
        hidden.fill(alone ? 0 : 1);
        hidden[project] = 0;
      } else hidden[project] = hidden[project] ? 0 : 1;
      press();
      changed();
    });
    button.dataset.project = project;
    return button;
  });
  const all = el("button", { type: "button", hidden: true }, "Show all");
  const press = () => {
    for (const one of buttons) one.setAttribute("aria-pressed", String(!hidden[one.dataset.project]));
    all.hidden = !hidden.includes(1);
  };
  all.addEventListener("click", () => {
    hidden.fill(0);
    press();
    changed();
    buttons[0].focus();
  });
  const rest = ranked.length - buttons.length;
  document.getElementById("legend").replaceChildren(...[...buttons, all].map((one) => el("li", {}, one)), rest > 0 ? el("li", { class: "muted" }, `and ${rest} more`) : "");
}

/** What is pointed at. */
class Tip {
  constructor(picture, points, styles) {
    Object.assign(this, { picture, points, styles, at: -1 });
    this.element = document.getElementById("map-tip");
  }

  show(at, { pinned = false, aloud = false } = {}) {
    if (at === this.at && this.element.classList.contains("pinned") === pinned) return;
    this.at = this.picture.hovered = at;
    this.picture.canvas.classList.toggle("over", at >= 0);
    this.picture.draw();
    clearTimeout(this.timer);
    this.element.hidden = at < 0;
    this.element.classList.toggle("pinned", pinned);
    if (at < 0) return;
    const project = this.points.project[at];
    const head = el("p", { class: "tip-head" }, mark(this.styles[project]), this.points.names[project]);
    const summary = el("p", { class: "tip-summary", dir: "auto" }, "…");
    this.element.replaceChildren(head, summary);
    if (pinned) this.element.append(el("a", { href: url(`/dashboard/episodes/${encodeURIComponent(this.points.ids[at])}`) }, "Open"));
    this.place();
    this.timer = setTimeout(async () => {
      let words;
      try {
        const one = await details(this.points.ids[at]);
        words = one.summary;
        if (this.at === at) head.append(" · ", el("time", { datetime: one.timestamp, "data-relative": "dated" }, ""));
        localise(head);
      } catch (error) {
        words = error.message;
      }
      if (this.at !== at) return;
      summary.textContent = words;
      this.place();
      if (aloud) document.getElementById("announce").textContent = `${this.points.names[project]}: ${words}`;
    }, CALM);
  }

  place() {
    if (this.at < 0) return;
    const [left, top] = this.picture.toScreen(this.points.x[this.at], this.points.y[this.at]);
    const { offsetWidth: width, offsetHeight: height } = this.element;
    const x = Math.max(8, Math.min(left + 14, this.picture.width - width - 8));
    const y = top + 16 + height > this.picture.height ? Math.max(8, top - height - 14) : top + 16;
    this.element.style.transform = `translate(${Math.round(x)}px, ${Math.round(y)}px)`;
  }
}

/** The same in words: what is in view, or what a lasso holds. */
class List {
  constructor(points, styles) {
    Object.assign(this, { points, styles, found: [] });
    this.rows = document.getElementById("list");
    this.more = document.getElementById("list-more");
    this.more.addEventListener("click", () => {
      const first = this.rows.children.length;
      this.#add();
      this.rows.children[first]?.querySelector("a").focus();
    });
  }

  show(title, found) {
    this.found = found;
    document.getElementById("list-title").textContent = title;
    document.getElementById("list-about").textContent = found.length ? `${found.length.toLocaleString()}` : "None. Zoom out, or let more projects be seen.";
    this.rows.replaceChildren();
    this.#add();
  }

  #add() {
    const from = this.rows.children.length;
    const rows = this.found.slice(from, from + PAGE).map((at) => this.#row(at));
    this.rows.append(...rows);
    this.more.hidden = this.found.length <= from + PAGE;
  }

  #row(at) {
    const id = this.points.ids[at];
    const project = this.points.project[at];
    const summary = el("span", { class: "summary", dir: "auto" }, "…");
    const when = el("span", { class: "when" });
    const badges = el("span", { class: "badges" }, el("span", { class: "badge" }, mark(this.styles[project]), this.points.names[project]));
    const row = el("li", {}, el("a", { class: "episode", href: url(`/dashboard/episodes/${encodeURIComponent(id)}`) }, summary, when, badges));
    const fill = async () => {
      try {
        const one = await details(id);
        summary.textContent = one.summary.slice(0, 400);
        when.append(el("time", { datetime: one.timestamp, "data-relative": "dated" }, ""));
        localise(when);
      } catch (error) {
        summary.textContent = error.status === 404 ? "It is not there any more." : error.message;
      }
    };
    seen.set(row, fill);
    watcher.observe(row);
    return row;
  }
}

// A row is fetched when it comes near: most of a list is never looked at.
const seen = new WeakMap();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      seen.get(target)();
    }
  },
  { rootMargin: "300px" },
);

load();
