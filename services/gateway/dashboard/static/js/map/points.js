// The points of a map and where they are: which is nearest, which lie within a shape. Knows nothing of drawing.

const CELLS = 64; // of the grid, along each side

export class Points {
  /** `map` is an EpisodeMap. */
  constructor(map) {
    this.count = map.episode_id.length;
    this.ids = map.episode_id;
    this.x = Float32Array.from(map.x);
    this.y = Float32Array.from(map.y);
    this.project = Uint16Array.from(map.project);
    this.names = map.projects;
    this.cells = Array.from({ length: CELLS * CELLS }, () => []);
    for (let at = 0; at < this.count; at += 1) this.cells[this.#cell(this.x[at], this.y[at])].push(at);
  }

  #cell(x, y) {
    return clamp(y) * CELLS + clamp(x);
  }

  /** The nearest point within `radius` that `shown` lets through; -1 = none. All in the map's own units. */
  nearest(x, y, radius, shown) {
    let best = -1;
    let least = radius * radius;
    for (let row = clamp(y - radius); row <= clamp(y + radius); row += 1) {
      for (let column = clamp(x - radius); column <= clamp(x + radius); column += 1) {
        for (const at of this.cells[row * CELLS + column]) {
          const distance = (this.x[at] - x) ** 2 + (this.y[at] - y) ** 2;
          if (distance <= least && shown(at)) [best, least] = [at, distance];
        }
      }
    }
    return best;
  }

  /** The next point from `from` in a direction (dx, dy), the near and straight ones first; -1 = none. */
  next(from, dx, dy, shown) {
    let best = -1;
    let least = Infinity;
    for (let at = 0; at < this.count; at += 1) {
      const x = this.x[at] - this.x[from];
      const y = this.y[at] - this.y[from];
      const along = x * dx + y * dy;
      const aside = Math.abs(x * dy - y * dx);
      if (at === from || along <= 0 || aside > along || !shown(at)) continue;
      const cost = along + 2 * aside;
      if (cost < least) [best, least] = [at, cost];
    }
    return best;
  }

  /** Indices of the points that a test lets through. */
  where(test) {
    const found = [];
    for (let at = 0; at < this.count; at += 1) if (test(at)) found.push(at);
    return found;
  }

  /** Whether a point lies within a polygon of [x, y]. */
  within(at, polygon) {
    const x = this.x[at];
    const y = this.y[at];
    let inside = false;
    for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
      const [ax, ay] = polygon[i];
      const [bx, by] = polygon[j];
      if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
    }
    return inside;
  }
}

const clamp = (value) => Math.max(0, Math.min(CELLS - 1, Math.floor(((value + 1) / 2) * CELLS)));
