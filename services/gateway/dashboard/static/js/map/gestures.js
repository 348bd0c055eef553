// Mouse, touch and keys on the picture: moving, zooming, drawing a lasso, going from point to point.

const STEP = 60; // px that an arrow key moves
const CLICK = 5; // px that a click may wander
const REACH = 12; // px from a point that still mean it; a finger's is larger

/** `does`: hover(at), open(at, event), tap(at), lasso(polygon), lassoing(on), step(dx, dy). */
export function gestures(picture, does) {
  const { canvas } = picture;
  const fingers = new Map(); // pointer id -> [left, top]
  let start = null;
  let wandered = false;
  let drawing = false;

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const at = (event) => {
    const [left, top] = place(event);
    const reach = event.pointerType === "touch" ? 2 * REACH : REACH;
    return picture.points.nearest(...picture.toMap(left, top), reach / picture.scale, picture.shown);
  };
  const setDrawing = (on) => {
    drawing = on;
    picture.lasso = null;
    picture.draw();
    canvas.classList.toggle("lassoing", on);
    does.lassoing(on);
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 1) return;
    canvas.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, place(event));
    if (fingers.size > 1) {
      picture.lasso = null;
      return;
    }
    start = place(event);
    wandered = false;
    if (drawing) picture.lasso = [picture.toMap(...start)];
  });

  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType !== "touch") does.hover(drawing ? -1 : at(event));
      return;
    }
    if (start && Math.hypot(now[0] - start[0], now[1] - start[1]) > CLICK) wandered = true;
    if (fingers.size === 2) {
      const [other] = [...fingers].filter(([id]) => id !== event.pointerId).map(([, one]) => one);
      const [was, is] = [before, now].map((one) => Math.hypot(one[0] - other[0], one[1] - other[1]));
      picture.pan((now[0] - before[0]) / 2, (now[1] - before[1]) / 2);
      if (was > 0) picture.zoomBy(is / was, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
      wandered = true;
    } else if (drawing && picture.lasso) {
      picture.lasso.push(picture.toMap(...now));
      picture.draw();
    } else if (wandered) {
      canvas.classList.add("dragging");
      does.hover(-1);
      picture.pan(now[0] - before[0], now[1] - before[1]);
    }
    fingers.set(event.pointerId, now);
  });

  const up = (event) => {
    if (!fingers.delete(event.pointerId)) return;
    canvas.classList.remove("dragging");
    if (fingers.size) return;
    if (drawing && picture.lasso) {
      const polygon = picture.lasso;
      setDrawing(false);
      if (polygon.length > 2 && event.type === "pointerup") does.lasso(polygon);
    } else if (!wandered && event.type === "pointerup") {
      const found = at(event);
      if (event.pointerType === "touch") does.tap(found);
      else if (found >= 0) does.open(found, event);
    }
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("pointerleave", (event) => event.pointerType !== "touch" && does.hover(-1));

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : 1);
      picture.zoomBy(Math.exp(-Math.max(-120, Math.min(120, pixels)) * 0.0022), ...place(event));
      does.hover(-1);
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", (event) => picture.zoomBy(2, ...place(event)));

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (arrow && event.shiftKey) does.step(...arrow);
    else if (arrow) picture.pan(-arrow[0] * STEP, arrow[1] * STEP);
    else if (event.key === "+" || event.key === "=") picture.zoomBy(1.4);
    else if (event.key === "-") picture.zoomBy(1 / 1.4);
    else if (event.key === "0") picture.all();
    else if (event.key === "l" || event.key === "L") setDrawing(!drawing);
    else if (event.key === "Escape" && drawing) setDrawing(false);
    else if (event.key === "Escape") does.hover(-1);
    else if (event.key === "Enter" && picture.hovered >= 0) does.open(picture.hovered, event);
    else return;
    event.preventDefault();
  });

  return { toggleLasso: () => setDrawing(!drawing) };
}
