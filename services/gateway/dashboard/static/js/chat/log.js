// The scrolling column of turns: stays at its end while the reader is there, and leaves them where they read otherwise.

const NEAR = 48; // px from the end that still count as the end

export class Log {
  /** `jump`: the button that leads back to the end. */
  constructor(element, jump) {
    this.element = element;
    this.jump = jump;
    this.following = true;
    element.addEventListener("scroll", () => this.#look(), { passive: true });
    new ResizeObserver(() => this.following && this.toEnd()).observe(element);
    jump.addEventListener("click", () => {
      this.toEnd();
      document.getElementById("message").focus({ preventScroll: true });
    });
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.element;
    this.following = scrollHeight - scrollTop - clientHeight < NEAR;
    this.jump.hidden = this.following;
  }

  /** Something has grown. */
  grown() {
    if (this.following) this.element.scrollTop = this.element.scrollHeight;
    else this.jump.hidden = false;
  }

  /** Go to the end; twice, as what comes into view takes its real height only then. */
  toEnd() {
    this.following = true;
    this.element.scrollTop = this.element.scrollHeight;
    requestAnimationFrame(() => {
      if (this.following) this.element.scrollTop = this.element.scrollHeight;
      this.#look();
    });
  }

  /** Change something above what is being read, which stays where it is. */
  keeping(anchor, change) {
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (anchor) this.element.scrollTop += anchor.getBoundingClientRect().top - before;
  }
}
