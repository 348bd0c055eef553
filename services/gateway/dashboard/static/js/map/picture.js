// Draws points on a canvas, and knows which stretch of the plane is in view.

const MARGIN = 1.08; // how much more than -1..1 is shown at first
const CLOSEST = 200; // times
const SIZE = 3.2; // px, half of a point's width at first
export const COLOURS = 8;
const SHAPES = ["circle", "square", "triangle", "diamond"];

/** The colour and the shape of the n-th project: pairs repeat only after 28; the last colour is for all that follow. */
export const style = (rank) =>
  rank < (COLOURS - 1) * SHAPES.length ? { colour: rank % (COLOURS - 1), shape: SHAPES[Math.floor(rank / (COLOURS - 1)) % SHAPES.length] } : { colour: COLOURS - 1, shape: "circle" };

/** A shape's outline around (0, 0), on a canvas or as the path of an SVG. */
export function outline(path, shape, size) {
  if (shape === "circle") path.arc(0, 0, size, 0, 2 * Math.PI);
  else {
    const corners = {
      square: [[-0.88, -0.88], [0.88, -0.88], [0.88, 0.88], [-0.88, 0.88]],
      triangle: [[0, -1.1], [1.1, 0.85], [-1.1, 0.85]],
      diamond: [[0, -1.25], [1.25, 0], [0, 1.25], [-1.25, 0]],
    }[shape];
    corners.forEach(([x, y], at) => path[at ? "lineTo" : "moveTo"](x * size, y * size));
    path.closePath();
  }
}

export class Picture {
  /** `styles`: one {colour, shape} a project. `shown(at)`: whether a point is to be seen. */
  constructor(canvas, points, styles, shown) {
    Object.assign(this, { canvas, points, styles, shown });
    this.context = canvas.getContext("2d");
    this.centre = [0, 0];
    this.zoom = 1;
    this.hovered = -1;
    this.chosen = null; // Uint8Array: 1 = in the lasso
    this.lasso = null; // [[x, y]] while it is drawn, in the map's units
    this.due = false;
    this.moved = () => {};
    new ResizeObserver(() => this.#resize()).observe(canvas);
    this.recolour();
  }

  /** Take the colours of the present appearance. */
  recolour() {
    const css = getComputedStyle(document.documentElement);
    this.colours = Array.from({ length: COLOURS }, (_, at) => css.getPropertyValue(`--m${at}`).trim());
    this.text = css.getPropertyValue("--text").trim();
    this.accent = css.getPropertyValue("--accent").trim();
    this.ground = css.getPropertyValue("--surface").trim();
    this.stamps = null;
    this.draw();
  }

  #resize() {
    this.ratio = Math.min(devicePixelRatio || 1, 2);
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    this.stamps = null;
    this.paint(); // at once: a canvas that has changed its size is empty
  }

  /** px for one unit. */
  get scale() {
    return (Math.min(this.width, this.height) / (2 * MARGIN)) * this.zoom;
  }

  toScreen(x, y) {
    return [this.width / 2 + (x - this.centre[0]) * this.scale, this.height / 2 - (y - this.centre[1]) * this.scale];
  }

  toMap(left, top) {
    return [this.centre[0] + (left - this.width / 2) / this.scale, this.centre[1] - (top - this.height / 2) / this.scale];
  }

  pan(dx, dy) {
    this.centre = [this.centre[0] - dx / this.scale, this.centre[1] + dy / this.scale].map((one) => Math.max(-1.2, Math.min(1.2, one)));
    this.draw();
    this.moved();
  }

  /** Zoom by a factor around a place of the screen, which stays where it is. */
  zoomBy(factor, left = this.width / 2, top = this.height / 2) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.max(0.5, Math.min(CLOSEST, this.zoom * factor));
    const [nowX, nowY] = this.toMap(left, top);
    this.centre = [this.centre[0] + x - nowX, this.centre[1] + y - nowY];
    this.draw();
    this.moved();
  }

  all() {
    this.centre = [0, 0];
    this.zoom = 1;
    this.draw();
    this.moved();
  }

  /** Bring a point into view, where it is not. */
  reveal(at) {
    const [left, top] = this.toScreen(this.points.x[at], this.points.y[at]);
    if (left > 20 && top > 20 && left < this.width - 20 && top < this.height - 20) return;
    this.pan(this.width / 2 - left, this.height / 2 - top);
  }

  inView(at) {
    const [left, top] = this.toScreen(this.points.x[at], this.points.y[at]);
    return left >= 0 && top >= 0 && left <= this.width && top <= this.height;
  }

  draw() {
    if (this.due) return;
    this.due = true;
    requestAnimationFrame(() => this.paint());
  }

  get #size() {
    return SIZE * Math.min(2.4, 0.8 + this.zoom ** 0.35 * 0.4) * (this.points.count > 4000 ? 0.8 : this.points.count < 400 ? 1.35 : 1);
  }

  paint() {
    this.due = false;
    if (!this.width || !this.height) return;
    const { context, points, ratio, width, height, scale } = this;
    const size = this.#size;
    if (!this.stamps || this.stamps.size !== size) this.#cut(size);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const half = this.stamps.half;
    const left = (width / 2 - this.centre[0] * scale) * ratio;
    const top = (height / 2 + this.centre[1] * scale) * ratio;
    const unit = scale * ratio;
    const [w, h] = [this.canvas.width + half, this.canvas.height + half];
    const dim = this.chosen;
    for (const lit of dim ? [0, 1] : [1]) {
      context.globalAlpha = lit ? 0.82 : 0.16;
      for (let at = 0; at < points.count; at += 1) {
        if ((dim && dim[at] !== lit) || !this.shown(at)) continue;
        const x = left + points.x[at] * unit;
        const y = top - points.y[at] * unit;
        if (x < -half || y < -half || x > w || y > h) continue;
        context.drawImage(this.stamps.list[points.project[at]], (x - half) | 0, (y - half) | 0);
      }
    }
    context.globalAlpha = 1;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    if (this.hovered >= 0) this.#ring(this.hovered, size + 3.5);
    if (this.lasso) this.#line();
  }

  /** One small picture for each kind of point, copied from then on. */
  #cut(size) {
    const half = Math.ceil((size * 1.3 + 1) * this.ratio);
    const cut = new Map();
    const list = this.styles.map(({ colour, shape }) => {
      const key = `${colour} ${shape}`;
      if (!cut.has(key)) {
        const stamp = Object.assign(document.createElement("canvas"), { width: 2 * half, height: 2 * half });
        const context = stamp.getContext("2d");
        context.translate(half, half);
        context.beginPath();
        outline(context, shape, size * this.ratio);
        context.fillStyle = this.colours[colour];
        context.fill();
        cut.set(key, stamp);
      }
      return cut.get(key);
    });
    this.stamps = { size, half, list };
  }

  #ring(at, radius) {
    const [left, top] = this.toScreen(this.points.x[at], this.points.y[at]);
    this.context.beginPath();
    this.context.arc(left, top, radius, 0, 2 * Math.PI);
    this.context.lineWidth = 2;
    this.context.strokeStyle = this.text;
    this.context.stroke();
  }

  #line() {
    const { context } = this;
    context.beginPath();
    this.lasso.forEach(([x, y], at) => context[at ? "lineTo" : "moveTo"](...this.toScreen(x, y)));
    context.closePath();
    context.lineWidth = 1.5;
    context.strokeStyle = this.accent;
    context.setLineDash([5, 4]);
    context.stroke();
    context.setLineDash([]);
    context.globalAlpha = 0.1;
    context.fillStyle = this.accent;
    context.fill();
    context.globalAlpha = 1;
  }
}
