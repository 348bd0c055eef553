// Draws episodes over time, stacked, from the table that stands below the picture.
import "./runs.js";

const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
const height = (place) => (place.clientWidth > 520 ? 360 : 220);

let library = null;

/** uPlot, fetched when the first picture is to be drawn. */
function uPlot() {
  library ??= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = new URL("../vendor/uPlot.iife.min.js", import.meta.url);
    script.addEventListener("load", () => resolve(window.uPlot));
    script.addEventListener("error", reject);
    document.head.append(script);
  });
  return library;
}

/** Bucket starts (s since the epoch) and one array of counts a column. */
function read(table) {
  const rows = [...table.tBodies[0].rows];
  const starts = rows.map((row) => Number(row.cells[0].dataset.start));
  const columns = [...table.tHead.rows[0].cells].slice(1).map((_, at) => rows.map((row) => Number(row.cells[at + 1].textContent)));
  return { starts, columns };
}

/** Each column on top of those before it. */
function stacked(columns) {
  const sums = [];
  for (const column of columns) sums.push(column.map((value, at) => value + (sums.at(-1)?.[at] ?? 0)));
  return sums;
}

async function draw(place) {
  const table = document.getElementById(place.dataset.chart);
  const Plot = await uPlot();
  if (!place.isConnected) return;
  const { starts, columns } = read(table);
  const sums = stacked(columns);
  const look = getComputedStyle(document.documentElement);
  const colour = (name) => look.getPropertyValue(name).trim();
  const legend = place.parentElement.querySelector(".legend");
  const values = [...legend.querySelectorAll("b")];
  const when = legend.querySelector(".legend-when");
  const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeZone: "UTC" });

  function follow(plot) {
    const at = plot.cursor.idx;
    values.forEach((one, index) => {
      one.textContent = (at == null ? Number(one.dataset.total) : columns[index][at]).toLocaleString();
    });
    when.textContent = at == null ? "" : day.format(starts[at] * 1000);
  }

  const paths = Plot.paths.bars({ size: [0.72, 44], radius: 0.12 });
  const axis = {
    stroke: colour("--muted"),
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
    font: `12px ${look.getPropertyValue("--sans")}`,
  };
  const step = starts.length > 1 ? (starts.at(-1) - starts[0]) / (starts.length - 1) : 86_400;
  const months = step > 27 * 86_400;
  const label = new Intl.DateTimeFormat(undefined, {
    month: "short",
    ...(months ? { year: "numeric" } : { day: "numeric" }),
    timeZone: "UTC",
  });
  /** As many of the bucket starts as there is room for names. */
  function splits(plot) {
    const stride = Math.ceil(starts.length / Math.max(1, Math.floor(plot.width / 84)));
    return starts.filter((_, at) => at % stride === 0);
  }
  // The tallest first, so that those below are drawn over it.
  const order = sums.map((_, index) => index).reverse();
  place.replaceChildren();
  const plot = new Plot(
    {
      width: place.clientWidth,
      height: height(place),
      tzDate: (seconds) => Plot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { show: false } },
      scales: {
        x: { range: () => [starts[0] - step * 0.6, starts.at(-1) + step * 0.6] },
        y: { range: (_, __, most) => [0, Math.max(4, most * 1.06)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 30, splits, values: (_, places) => places.map((at) => label.format(at * 1000)) },
        { ...axis, size: 44, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000] },
      ],
      series: [{}, ...order.map((index) => ({ paths, points: { show: false }, width: 0, fill: colour(COLOURS[index]) }))],
      hooks: { setCursor: [follow] },
    },
    [starts, ...order.map((index) => sums[index])],
    place,
  );
  return plot;
}

const plots = new Map(); // place -> its plot

async function show(place) {
  plots.get(place)?.destroy();
  const plot = await draw(place);
  if (plot) plots.set(place, plot);
}

function drawAll() {
  for (const place of plots.keys()) if (!place.isConnected) plots.delete(place);
  document.querySelectorAll("[data-chart]").forEach(show);
}

document.addEventListener("htmx:load", (event) => event.detail.elt.querySelectorAll?.("[data-chart]").forEach(show));
document.body.addEventListener("appearance", drawAll);
let width = innerWidth;
addEventListener("resize", () => {
  if (width === innerWidth) return; // a phone's address bar comes and goes
  width = innerWidth;
  for (const [place, plot] of plots) if (place.isConnected) plot.setSize({ width: place.clientWidth, height: height(place) });
});
