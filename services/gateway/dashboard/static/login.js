// Sends the form of a one-time link at once. A page that is only prepared in the background waits until it is looked at.

const form = document.querySelector("form[data-once]");

function send() {
  form.querySelector("button").hidden = true;
  form.querySelector(".working").hidden = false;
  form.requestSubmit();
}

if (form) {
  if (document.prerendering) document.addEventListener("prerenderingchange", send, { once: true });
  else send();
  // Back from the page after it: the button is there again.
  addEventListener("pageshow", (event) => {
    if (!event.persisted) return;
    form.querySelector("button").hidden = false;
    form.querySelector(".working").hidden = true;
  });
}
