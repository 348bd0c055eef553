// A form over a part of a configuration: filled when it is read, saved by its button, errors beside its fields.
import { announce, during } from "../ui.js";
import { clearErrors, invalid, mayEdit, showErrors } from "./page.js";
import { conflict, conflictNotice } from "./versioned.js";

/**
 * `fill(config, answer)` writes the fields, `read(config)` gives the configuration that the fields say, `fieldOf(where)`
 * finds the field of an error, `fallback(error)` that of one which names no place. What is being written is not overwritten by another editor's save.
 */
export function bind(form, store, { fill, read, fieldOf = () => null, fallback = () => null, said = "Saved", path, body }) {
  const line = form.querySelector(".form-error");
  const send = form.querySelector("button:not([type])");
  const group = form.querySelector("fieldset");
  let touched = false;
  if (!mayEdit) {
    group.disabled = true;
    send.hidden = true;
  }
  form.addEventListener("input", () => (touched = true));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clearErrors(form);
    line.replaceChildren();
    if (invalid(form)) return;
    await during(send, async () => {
      try {
        touched = false;
        await store.save(read, { path, body });
        announce(said, "good");
      } catch (error) {
        touched = true;
        if (!conflict(error)) return showErrors(form, error, fieldOf, fallback(error));
        line.replaceChildren(
          conflictNotice(() => {
            touched = false;
            return store.load();
          }),
        );
      }
    });
  });
  return (config, answer) => {
    if (touched) return;
    form.hidden = false;
    fill(config, answer);
  };
}
