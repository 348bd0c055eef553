// The scrolling column of turns: stays at its end while the reader is there, and leaves them where they read otherwise.

const NEAR = 48; // px from the end that still count as the end

export class Log {
  /** `jump`: the button that leads back to the end. */
  constructor(element, jump) {
    this.element = element;
    this.jump = jump;
    this.following = false;
    this.at = 0; // where it stood last
    element.addEventListener("scroll", () => this.#look(), { passive: true });
    // What comes into view takes its real height only then; and the window may change.
    const resized = new ResizeObserver(() => this.following && this.#scroll());
    resized.observe(element);
    resized.observe(element.firstElementChild);
    jump.addEventListener("click", () => {
      this.toEnd();
      document.getElementById("message").focus({ preventScroll: true });
    });
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    const away = scrollHeight - scrollTop - clientHeight;
    // Going up is the reader's doing; falling behind, when something has grown, is not.
    if (away < NEAR) this.following = true;
    else if (scrollTop < this.at) this.following = false;
    this.at = scrollTop;
    this.jump.hidden = this.following || away < NEAR;
  }

  #scroll() {
    this.element.scrollTop = this.element.scrollHeight;
  }

  /** Something has grown. */
  grown() {
    if (this.following) this.#scroll();
    else this.jump.hidden = false;
  }

  /** Go to the end, and stay there. */
  toEnd() {
    this.following = true;
    this.jump.hidden = true;
    this.#scroll();
  }

  /** Begin to be read from the top. */
  toStart() {
    this.following = false;
    this.jump.hidden = true;
    this.element.scrollTop = 0;
  }

  /** Go to a turn; several times, as those around it take their real heights only when they come into view. */
  toElement(element, times = 6) {
    this.following = false;
    element.scrollIntoView({ block: "start" });
    if (times > 1) return requestAnimationFrame(() => element.isConnected && this.toElement(element, times - 1));
    element.tabIndex = -1;
    element.focus({ preventScroll: true });
  }

  /** Change something above what is being read, which stays where it is. */
  keeping(anchor, change) {
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (anchor) this.element.scrollTop += anchor.getBoundingClientRect().top - before;
  }
}
