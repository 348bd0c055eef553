// Markdown as it arrives: each piece is appended to what stands there, nothing is parsed twice, and no HTML string is
// ever made: what others wrote becomes elements that we choose and text. Addresses are http, https or mailto, or they
// stay words; pictures become links, so nothing is fetched because somebody wrote it.
import * as smd from "../../vendor/streaming-markdown.min.js";
import { el } from "../ui.js";

const DEEPEST = 40; // elements within one another; what is nested deeper stays at that depth
const STEP = 1024; // characters between two looks at what the parser holds back
const HELD = 2048; // characters that the parser may hold back, waiting for the end of an address or a fence
const NODE = 4096; // characters of one text node; longer ones are slow to extend
const ROOM = 512; // kinds of nesting that the parser can tell apart

const NAMES = new Map([
  [smd.BLOCKQUOTE, "blockquote"],
  [smd.PARAGRAPH, "p"],
  [smd.LINE_BREAK, "br"],
  [smd.RULE, "hr"],
  [smd.ITALIC_AST, "em"],
  [smd.ITALIC_UND, "em"],
  [smd.STRONG_AST, "strong"],
  [smd.STRONG_UND, "strong"],
  [smd.STRIKE, "s"],
  [smd.CODE_INLINE, "code"],
  [smd.LIST_UNORDERED, "ul"],
  [smd.LIST_ORDERED, "ol"],
  [smd.LIST_ITEM, "li"],
]);
const HOLDS_WORDS = new Set(["P", "LI", "EM", "STRONG", "S", "CODE", "TD", "TH", "H3", "H4", "H5", "H6"]);
const VOID = new Set([smd.LINE_BREAK, smd.RULE, smd.CHECKBOX]);
const VERBATIM = new Set([smd.CODE_INLINE, smd.CODE_BLOCK, smd.CODE_FENCE, smd.RAW_URL, smd.EQUATION_INLINE, smd.EQUATION_BLOCK]);
const WORD = /[\p{L}\p{N}]/u;
const EQUATION = new Map([
  [smd.EQUATION_INLINE, "$"],
  [smd.EQUATION_BLOCK, "$$"],
]);

/** An address that may be followed, written out in full; none for all else. */
export function safeAddress(text) {
  let address;
  const bare = text.trim().replace(/\s+("[^"]*"|'[^']*')$/, "").replace(/^<(.*)>$/, "$1"); // a title, brackets
  if (/\s/.test(bare)) return null;
  try {
    address = new URL(bare);
  } catch {
    return null; // relative, too: it would lead into our own pages
  }
  if (!["http:", "https:", "mailto:"].includes(address.protocol)) return null;
  if (address.username || address.password) return null; // `https://bank.example@elsewhere.example`
  return address.href;
}

/** A growing text below `root`. */
export class Markdown {
  constructor(root) {
    this.root = root;
    this.open = [{ node: root, type: 0 }];
    this.tail = null; // what the parser holds back although it is plain words: shown until it decides
    this.plain = null; // where text goes once the parser has given up
    this.before = ""; // the last character that was written
    this.waiting = ""; // underscores at the end of what came: what follows says whether they stand within a word
    this.parser = smd.parser({
      data: this,
      add_token: (self, type) => self.#begin(type),
      end_token: (self) => self.#end(),
      add_text: (self, text) => append(self.#top.node, text),
      set_attr: (self, type, value) => self.#set(type, value),
    });
    // The parser's own room ends at a depth of 24, where it loses count.
    this.parser.tokens = Uint32Array.from({ length: ROOM }, (_, at) => (at ? 0 : this.parser.tokens[0]));
    this.parser.spaces = new Uint8Array(ROOM);
  }

  /** Append a piece, cut anywhere. */
  write(text) {
    text = this.waiting + text;
    this.waiting = /_*$/.exec(text)[0];
    this.#words(text.slice(0, text.length - this.waiting.length));
  }

  /** The parser takes every underscore for emphasis; within a word (`snake_case`) it is one of its letters. */
  #words(text) {
    const pieces = text.split(/(_+)/);
    for (const [at, piece] of pieces.entries()) {
      if (!piece) continue;
      const within = at % 2 === 1 && WORD.test(this.before) && WORD.test(pieces[at + 1]?.[0] ?? "");
      this.#push(within && !this.#verbatim ? piece.replaceAll("_", "\\_") : piece);
      this.before = piece.at(-1);
    }
  }

  get #verbatim() {
    const { token, pending } = this.parser;
    return this.plain || VERBATIM.has(token) || ([smd.LINK, smd.IMAGE].includes(token) && pending.startsWith("]("));
  }

  #push(text) {
    this.tail?.remove();
    this.tail = null;
    for (let at = 0; at < text.length && !this.plain; ) {
      let to = Math.min(at + STEP, text.length);
      if (/[\uD800-\uDBFF]/.test(text[to - 1]) && to < text.length) to += 1;
      try {
        smd.parser_write(this.parser, text.slice(at, to));
        if (this.parser.pending.length > HELD) this.#release();
        if (this.parser.len > ROOM - 40) throw new RangeError("nested too deep");
      } catch {
        this.#giveUp();
      }
      at = to;
      if (this.plain) return append(this.plain, text.slice(at));
    }
    if (this.plain) append(this.plain, text);
    else if (HOLDS_WORDS.has(this.#top.node.tagName) && /^[\p{L}\p{N}.,:;?]{1,8}$/u.test(this.parser.pending)) {
      this.tail = document.createTextNode(this.parser.pending);
      this.#top.node.append(this.tail);
    }
  }

  /** The text is over: what was still waiting for its end is shown as it was written. */
  end() {
    if (this.waiting) this.#push(this.waiting);
    this.waiting = "";
    this.tail?.remove();
    this.tail = null;
    if (this.plain) return;
    try {
      if (this.parser.pending.startsWith("](")) this.#release();
      smd.parser_end(this.parser);
      while (this.open.length > 1) this.#end(true);
    } catch {
      this.#giveUp();
    }
  }

  get #top() {
    return this.open[this.open.length - 1];
  }

  #begin(type) {
    const parent = this.#top.node;
    if (this.open.length > DEEPEST && !VOID.has(type)) return this.open.push({ node: parent, type: 0 });
    let node, inner;
    const heading = { [smd.HEADING_1]: 3, [smd.HEADING_2]: 4, [smd.HEADING_3]: 5 }[type]; // below the page's own
    if (NAMES.has(type)) node = document.createElement(NAMES.get(type));
    else if (heading) node = document.createElement(`h${heading}`);
    else if (type >= smd.HEADING_4 && type <= smd.HEADING_6) node = document.createElement("h6");
    else if (type === smd.LINK || type === smd.RAW_URL || type === smd.IMAGE) node = document.createElement("a");
    else if (type === smd.CODE_FENCE || type === smd.CODE_BLOCK) [node, inner] = codeBlock();
    else if (type === smd.CHECKBOX) node = el("input", { type: "checkbox", disabled: true, "aria-label": "To do" });
    else if (type === smd.TABLE) {
      inner = el("table");
      node = el("div", { class: "table-wrap", tabindex: "0", role: "group", "aria-label": "Table" }, inner);
    } else if (type === smd.TABLE_ROW) {
      const part = parent.tagName === "TABLE" ? tablePart(parent) : parent;
      part.append((node = el("tr")));
      return this.open.push({ node, type });
    } else if (type === smd.TABLE_CELL) {
      node = el(parent.parentElement?.tagName === "THEAD" ? "th" : "td");
    } else node = el("span", { class: EQUATION.has(type) ? "equation" : null }, EQUATION.get(type));
    parent.append(node);
    this.open.push({ node: inner ?? node, type });
  }

  /** `last`: the text is over, and nothing stands there that would end this. */
  #end(last = false) {
    if (this.open.length === 1) return;
    const { node, type, address } = this.open.pop();
    if (EQUATION.has(type) && !last) append(node, EQUATION.get(type));
    if (type !== smd.LINK && type !== smd.RAW_URL && type !== smd.IMAGE) return;
    const safe = address === undefined ? null : safeAddress(address);
    if (safe) {
      Object.assign(node, { href: safe, title: safe, target: "_blank", rel: "noopener noreferrer nofollow" });
      if (type === smd.IMAGE) node.prepend(node.textContent ? "Picture: " : "Picture");
      return;
    }
    if (type !== smd.RAW_URL) {
      const closed = !last && this.parser.pending.startsWith("]");
      node.prepend(type === smd.IMAGE ? "![" : "[");
      node.append(closed ? "]" : "", address === undefined ? "" : `(${address})`);
    }
    node.replaceWith(...node.childNodes);
  }

  #set(type, value) {
    const top = this.#top;
    if (type === smd.HREF || type === smd.SRC) top.address = value;
    else if (type === smd.START && top.node.tagName === "OL") top.node.start = Number(value) || 1;
    else if (type === smd.CHECKED) Object.assign(top.node, { checked: true, ariaLabel: "Done" });
    else if (type === smd.LANG) {
      const label = top.node.closest(".code")?.querySelector(".code-lang");
      if (label) label.textContent = value.trim().slice(0, 40);
    }
  }

  /** Let go of what the parser has held back for too long: it was no address, no fence, and is shown as text. */
  #release() {
    const parser = this.parser;
    const held = parser.pending;
    const link = [smd.LINK, smd.IMAGE].includes(parser.token) && held.startsWith("](");
    const address = parser.token === smd.RAW_URL; // its text is shown already
    parser.pending = "";
    parser.fence_start = parser.hr_chars = 0;
    if (link || address) {
      if (link) append(this.#top.node, held);
      parser.len -= 1;
      parser.token = parser.tokens[parser.len];
      this.#end(true);
    } else {
      if (parser.len === 0 || parser.token === smd.BLOCKQUOTE) {
        parser.len += 1;
        parser.tokens[parser.len] = parser.token = smd.PARAGRAPH;
        this.#begin(smd.PARAGRAPH);
      }
      append(this.#top.node, held);
    }
  }

  /** Go on as plain text; nothing of what came is lost. */
  #giveUp() {
    this.plain = el("p", { class: "plain" });
    append(this.plain, this.parser.text + this.parser.pending);
    this.root.append(this.plain);
  }
}

/** A whole text at once. */
export function render(root, text) {
  const markdown = new Markdown(root);
  markdown.write(text);
  markdown.end();
}

function append(node, text) {
  for (let at = 0; at < text.length; ) {
    const last = node.lastChild;
    const grows = last?.nodeType === Node.TEXT_NODE && last.length < NODE;
    let to = at + (grows ? NODE - last.length : NODE);
    if (/[\uD800-\uDBFF]/.test(text[to - 1] ?? "")) to += 1;
    const piece = text.slice(at, to);
    if (grows) last.appendData(piece);
    else node.append(piece);
    at = to;
  }
}

function codeBlock() {
  const code = el("code");
  const copy = el("button", { type: "button", class: "small ghost", "data-copy-code": true }, "Copy");
  const head = el("div", { class: "code-head" }, el("span", { class: "code-lang" }), copy);
  return [el("div", { class: "code" }, head, el("pre", { tabindex: "0" }, code)), code];
}

function tablePart(table) {
  const rows = table.children.length;
  if (rows < 2) table.append(el(rows ? "tbody" : "thead"));
  return table.lastElementChild;
}
