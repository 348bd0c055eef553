// Buttons that begin something: a reading of the transcripts, a scan, a night, a pass of summaries.
import { api } from "./api.js";
import { announce, during } from "./ui.js";

/** What is asked to begin, what is said then, and the panels that show it. */
const RUNS = {
  transcripts: { path: "/api/jsonl/ingest", said: "Reading has begun", panels: ["progress", "outcome", "coverage", "files"] },
  crawl: { path: "/api/crawler/scan", said: "A scan has begun", panels: ["crawl", "files"] },
  night: { path: "/api/schedule/run", body: {}, said: "The night has begun", panels: ["night", "progress", "crawl"] },
  summaries: { path: "/api/jsonl/summaries/run", said: "Writing has begun", panels: ["summaries"] },
};

export const renew = (...ids) => {
  for (const id of ids) {
    const place = document.getElementById(id);
    if (place) window.htmx.trigger(place, "retry");
  }
};

export const begin = (button, what, body = RUNS[what].body) =>
  during(button, async () => {
    const { path, said, panels } = RUNS[what];
    const answer = await api("POST", path, body);
    const under = answer?.started === false;
    announce(under ? "It was under way already" : said, under ? "plain" : "good");
    renew(...panels);
  });

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-run]");
  if (button) begin(button, button.dataset.run);
});
