// The night: whether, when and in which time zone; the next one is said in the reader's own time.
import { el, localise, showFailure } from "../ui.js";
import { bind } from "./form.js";
import { Versioned } from "./versioned.js";

const field = (name) => document.getElementById(`n-${name}`);
const schedule = new Versioned("/api/schedule", (answer) => answer.schedule);
const form = document.getElementById("schedule");
const here = Intl.DateTimeFormat().resolvedOptions().timeZone;

document.getElementById("zones").replaceChildren(...["UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])].map((value) => el("option", { value })));

function next({ next_run: moment, schedule: { time_zone: zone } }) {
  if (!moment) return ["No night is planned."];
  const time = (relative) => el("time", { datetime: moment, "data-relative": relative }, "");
  return ["The next one begins ", time(true), ": ", time(null), zone === here ? "." : ` by the clock of this browser (${here}).`];
}

const show = bind(form, schedule, {
  fill(config, answer) {
    field("enabled").checked = config.enabled;
    field("at").value = config.at;
    field("zone").value = config.time_zone;
    field("next").replaceChildren(...next(answer));
    localise(field("next"));
  },
  read: () => ({ enabled: field("enabled").checked, at: field("at").value, time_zone: field("zone").value.trim() }),
  fieldOf: (where) => {
    const name = { enabled: "enabled", at: "at", time_zone: "zone" }[where.split(".").at(-1)];
    return name ? field(name) : null;
  },
});
schedule.watch(show, (error, retry) => showFailure(document.getElementById("schedule-failed"), error, retry));
