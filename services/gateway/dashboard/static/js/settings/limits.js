// What holds for all sources: how often is scanned, what is too large, and what is never read.
import { showFailure } from "../ui.js";
import { crawler } from "./crawler.js";
import { bind } from "./form.js";
import { lines, words } from "./page.js";

const form = document.getElementById("limits");
const field = (name) => document.getElementById(`l-${name}`);
const FIELDS = { scan_seconds: "scan", max_bytes: "bytes", max_document_bytes: "document", extensions: "extensions", excludes: "excludes", watch: "watch" };

const show = bind(form, crawler, {
  fill(config) {
    field("scan").value = config.scan_seconds / 60;
    field("bytes").value = config.max_bytes / 1024;
    field("document").value = config.max_document_bytes / (1 << 20);
    field("watch").checked = config.watch;
    field("extensions").value = config.extensions.join(" ");
    field("excludes").value = config.excludes.join("\n");
  },
  read: (config) => ({
    ...config,
    scan_seconds: Number(field("scan").value) * 60,
    max_bytes: Math.round(Number(field("bytes").value) * 1024),
    max_document_bytes: Math.round(Number(field("document").value) * (1 << 20)),
    watch: field("watch").checked,
    extensions: words(field("extensions").value.replaceAll(/\s+/g, ",")),
    excludes: lines(field("excludes").value),
  }),
  fieldOf: (where) => {
    const name = where.split(".").find((part) => part in FIELDS);
    return name ? field(FIELDS[name]) : null;
  },
});
crawler.watch(show, (error, retry) => showFailure(document.getElementById("limits-failed"), error, retry));
