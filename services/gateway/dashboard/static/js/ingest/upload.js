// One file on its way to the service: how much of it has been sent, and what came of it.
import { csrf, failure, Failure, login, url } from "../api.js";

const PATIENCE = 300_000; // ms for sending and reading one document

/** Sends a form; `onSent(share)` is called as it goes. Gives the promise of the answer, and a way to stop. */
export function upload(path, form, onSent) {
  const request = new XMLHttpRequest(); // fetch does not tell how much has been sent
  const answer = new Promise((resolve, reject) => {
    request.open("POST", url(path));
    request.timeout = PATIENCE;
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("X-CSRF-Token", csrf());
    request.upload.addEventListener("progress", (event) => event.lengthComputable && onSent(event.loaded / event.total));
    request.addEventListener("load", () => {
      if (request.status === 401) return login();
      if (request.status >= 400) return reject(failure(request.status, request.responseText));
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        reject(failure(502, ""));
      }
    });
    request.addEventListener("error", () => reject(failure(0, "")));
    request.addEventListener("timeout", () => reject(new Failure("There was no answer in time; try again", 0)));
    request.addEventListener("abort", () => reject(new Failure("Stopped", 0, "stopped")));
    request.send(form);
  });
  return { answer, stop: () => request.abort() };
}
