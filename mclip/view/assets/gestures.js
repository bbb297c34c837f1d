// What mouse and fingers do on a part of a page.

// Of a wheel's pixel, and of one that stands for two fingers apart on a touchpad: those come as a wheel with Ctrl.
const ZOOM_PER_PIXEL = 0.0015, ZOOM_PER_PINCHED_PIXEL = 0.01;
// One event of a wheel zooms by no more.
const MAX_ZOOM_STEP = 0.3;

/**
 * Calls `drag(across, down, event, fingers)` with the pixels that pointers held down moved by, `zoom(factor, x, y)` for
 * a wheel or two fingers apart (closer: above 1) around a pixel of the page, and `reset()` for two clicks.
 */
function gestures(area, { drag, zoom, reset }) {
  const fingers = new Map();
  const middle = () => {
    const points = [...fingers.values()];
    return [0, 1].map((axis) => points.reduce((sum, point) => sum + point[axis], 0) / points.length);
  };
  const spread = () => {
    const [a, b] = [...fingers.values()];
    return b ? Math.hypot(a[0] - b[0], a[1] - b[1]) : 0;
  };
  area.addEventListener("pointerdown", (event) => {
    area.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  area.addEventListener("pointermove", (event) => {
    if (!fingers.has(event.pointerId)) return;
    const [before, apart] = [middle(), spread()];
    fingers.set(event.pointerId, [event.clientX, event.clientY]);
    const after = middle();
    // First: what is seen whole cannot be dragged.
    if (fingers.size === 2 && apart > 0) zoom(Math.max(spread(), 1) / apart, ...before);
    drag(after[0] - before[0], after[1] - before[1], event, fingers.size);
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    area.addEventListener(kind, (event) => fingers.delete(event.pointerId));
  }
  area.addEventListener("dblclick", reset);
  area.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      // Lines and pages, where a mouse counts in those, as pixels.
      const pixels = -event.deltaY * [1, 16, 400][event.deltaMode];
      const step = pixels * (event.ctrlKey ? ZOOM_PER_PINCHED_PIXEL : ZOOM_PER_PIXEL);
      zoom(Math.exp(clamp(step, -MAX_ZOOM_STEP, MAX_ZOOM_STEP)), event.clientX, event.clientY);
    },
    { passive: false },
  );
}
