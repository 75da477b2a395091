// Axes as wide as their place, in the page's own colours. Where they have columns, a curve is drawn on them by hand:
// with the mouse, or with the arrow keys, which do not leave the plot.
const LEFT = 58, RIGHT = 16, TOP = 10, BOTTOM = 46, TALL = 260, STEP = 0.05;
const LINES = { line: {}, dashed: { "stroke-dasharray": "9 5" }, own: { "stroke-dasharray": "3 4" } };
const DOTS = { dot: { r: 6 }, ring: { r: 5, fill: PAPER }, own: { r: 4, fill: PAPER } };

function mark(parent, { kind, colour }, points) {
  const look = { stroke: colour, "stroke-width": kind === "own" ? 2 : 3 };
  if (kind in LINES) put(parent, "polyline", { points: points.join(" "), fill: "none", ...look, ...LINES[kind] });
  if (kind in DOTS) for (const [cx, cy] of points) put(parent, "circle", { cx, cy, fill: colour, ...look, "stroke-width": 2, ...DOTS[kind] });
}

export default {
  render({ model, el }) {
    const legend = el.appendChild(document.createElement("div")), svg = put(el, "svg", { height: TALL });
    const said = el.appendChild(document.createElement("div"));
    el.style.cssText = `width: 100%; max-width: 960px; color: ${INK}; font: 13px sans-serif`;
    svg.style.cssText = "display: block; touch-action: none; user-select: none";
    said.setAttribute("aria-live", "polite");
    let x, y, chosen = 0, wide = 0;
    const columns = () => model.get("columns"), number = (value) => value.toLocaleString("en");

    function draw() {
      const view = model.get("view"), drawn = model.get("drawn"), low = TALL - BOTTOM;
      wide = el.clientWidth || 640;
      svg.replaceChildren();
      svg.setAttribute("width", wide);
      x = scale(view.x, LEFT, wide - RIGHT);
      y = scale(view.y, low, TOP);
      for (const at of view.y.ticks) {
        put(svg, "line", { x1: LEFT, x2: wide - RIGHT, y1: y(at), y2: y(at), stroke: LINE });
        put(svg, "text", { x: LEFT - 7, y: y(at) + 4, "text-anchor": "end", fill: INK }, number(at));
      }
      for (const at of view.x.ticks) {
        put(svg, "line", { x1: x(at), x2: x(at), y1: low, y2: low + 5, stroke: QUIET });
        put(svg, "text", { x: x(at), y: low + 19, "text-anchor": "middle", fill: INK }, number(at));
      }
      put(svg, "text", { x: (LEFT + wide - RIGHT) / 2, y: TALL - 7, "text-anchor": "middle", fill: INK }, view.x.title);
      const title = { "text-anchor": "middle", transform: `translate(13 ${(TOP + low) / 2}) rotate(-90)`, fill: INK };
      put(svg, "text", title, view.y.title);
      const mine = columns().filter((n) => n in drawn).map((n) => [x(n), y(drawn[n])]);
      const all = view.series.map((one) => ({ ...one, places: one.points.map(([a, b]) => [x(a), y(b)]) }));
      if (mine.length) all.unshift({ name: "your prediction", colour: INK, kind: "own", places: mine });
      legend.replaceChildren();
      for (const one of all) {
        mark(svg, one, one.places);
        const item = legend.appendChild(document.createElement("span"));
        item.style.cssText = "display: inline-flex; align-items: center; gap: 6px; margin: 2px 18px 2px 0";
        mark(put(item, "svg", { width: 34, height: 16 }), one, one.kind === "own" ? [[5, 8], [29, 8]] : one.kind in DOTS ? [[17, 8]] : [[2, 8], [32, 8]]);
        item.append(one.name);
      }
      if (!columns().length) return;
      const n = columns()[chosen];
      put(svg, "line", { x1: x(n), x2: x(n), y1: TOP, y2: low, stroke: QUIET, "stroke-dasharray": "2 4" });
      said.textContent = `${number(n)} rules: ${n in drawn ? Math.round(100 * drawn[n]) + " %" : "nothing drawn yet"}`;
    }

    function set(changes) {
      const drawn = { ...model.get("drawn"), ...changes };
      model.set("drawn", Object.fromEntries(Object.entries(drawn).filter(([, value]) => value !== null)));
      model.save_changes();
    }

    function point(event, last) {
      const place = svg.getBoundingClientRect(), far = columns().map((n) => Math.abs(x(n) - event.clientX + place.left));
      const share = (TALL - BOTTOM - event.clientY + place.top) / (TALL - BOTTOM - TOP), changes = {};
      const here = { column: far.indexOf(Math.min(...far)), value: Math.min(1, Math.max(0, Math.round(100 * share) / 100)) };
      const from = last ?? here, way = here.column - from.column;
      for (let i = 0; i <= Math.abs(way); i++) { // a fast mouse jumps over columns
        const part = way ? i / Math.abs(way) : 1, value = from.value + part * (here.value - from.value);
        changes[columns()[from.column + i * Math.sign(way)]] = Math.round(100 * value) / 100;
      }
      chosen = here.column;
      set(changes);
      draw();
      return here;
    }

    function press(event) {
      const n = columns()[chosen], now = model.get("drawn")[n] ?? -STEP, moves = { ArrowLeft: -1, ArrowRight: 1 };
      const changes = { ArrowUp: Math.min(1, now + STEP), ArrowDown: Math.max(0, now - STEP), Delete: null, Backspace: null };
      event.stopPropagation();
      if (event.key in changes) set({ [n]: changes[event.key] && Math.round(100 * changes[event.key]) / 100 });
      else if (event.key in moves) chosen = Math.min(columns().length - 1, Math.max(0, chosen + moves[event.key]));
      else return;
      event.preventDefault();
      draw();
    }

    let last = null;
    if (columns().length) {
      svg.setAttribute("tabindex", 0);
      svg.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's
      svg.style.cursor = "crosshair";
      svg.addEventListener("keydown", press);
      svg.addEventListener("pointerdown", (event) => { svg.setPointerCapture(event.pointerId); svg.focus(); last = point(event); event.preventDefault(); });
      svg.addEventListener("pointermove", (event) => event.buttons && (last = point(event, last)));
    } else svg.setAttribute("role", "img");
    model.on("change:view change:drawn", draw);
    const watch = new ResizeObserver(() => el.clientWidth !== wide && draw());
    watch.observe(el);
    draw();
    svg.setAttribute("aria-label", model.get("view").y.title + " by " + model.get("view").x.title);
    return () => watch.disconnect();
  },
};
