// Living figures: a view of a study as data, drawn as wide as its place. Every number drawn is on its node, unrounded,
// as data-mean, data-lo, data-hi, and in words for whoever points at it, or goes there by Tab and arrow keys.
const ROOM = { left: 46, right: 14, top: 14, bottom: 42, tall: 250, row: 24 };
const DASH = ["", "7 4", "2 3", "10 3 2 3", "4 4", "12 4"];
const SHAPE = [
  (r) => `M${-r},0a${r},${r} 0 1,0 ${2 * r},0a${r},${r} 0 1,0 ${-2 * r},0`, (r) => `M${-r},${-r}h${2 * r}v${2 * r}h${-2 * r}z`,
  (r) => `M0,${-1.2 * r}L${1.2 * r},${r}H${-1.2 * r}z`, (r) => `M0,${-1.4 * r}L${1.4 * r},0L0,${1.4 * r}L${-1.4 * r},0z`,
  (r) => `M0,${1.2 * r}L${1.2 * r},${-r}H${-1.2 * r}z`, (r) => `M${1.3 * r},0L${-r},${1.2 * r}V${-1.2 * r}z`,
];
const shown = (value) => (value >= 1e5 ? `${value / 1000}k` : value.toLocaleString("en", { maximumFractionDigits: 3 }));
const inWords = ({ mean, lo, hi, seeds }) => mean.toFixed(3) + (lo === null ? "" : ` [${lo.toFixed(3)}, ${hi.toFixed(3)}]`) + (seeds ? `, ${seeds === 1 ? "one seed" : `${seeds} seeds`}` : "");
const look = (i) => ({ colour: PALETTE[i % PALETTE.length], dash: DASH[i % DASH.length], shape: SHAPE[i % SHAPE.length] });

function symbol(parent, shape, x, y, r, attributes, words) {
  const node = put(parent, "path", { d: shape(r), transform: `translate(${x} ${y})`, ...attributes });
  if (!words) return node;
  put(node, "title", {}, words);
  node.setAttribute("role", "img");
  return marked(node, words);
}

function numbered(node, { mean, lo, hi }) {
  Object.assign(node.dataset, { mean, lo, hi });
  return node;
}

function legendOf(el, series, by) {
  if (series.length < 2 && !series[0]?.name) return;
  const legend = make(el, "div", { class: "legend" });
  if (by) make(legend, "span", { class: "quiet" }, `${by}:`);
  for (const [i, { name }] of series.entries()) {
    const item = make(legend, "span"), { colour, dash, shape } = look(i), key = put(item, "svg", { width: 34, height: 14 });
    put(key, "line", { x1: 1, x2: 33, y1: 7, y2: 7, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dash });
    symbol(key, shape, 17, 7, 4.5, { fill: colour });
    item.append(name);
  }
}

// The title of the axis from left to right: below its middle, as far as its words leave room.
function titled(svg, words, left, wide, y) {
  const half = 3.2 * words.length, middle = Math.min((left + wide - ROOM.right) / 2, wide - half - 2);
  put(svg, "text", { x: Math.max(middle, half + 2), y, "text-anchor": "middle" }, words);
}

// Ends that hold all values, a little wider.
function around(values, log) {
  const f = log ? Math.log : (v) => v, back = log ? Math.exp : (v) => v;
  let low = Math.min(...values.map(f)), high = Math.max(...values.map(f));
  const more = low === high ? 1 : 0.05 * (high - low);
  return [back(low - more), back(high + more)];
}

// Round numbers between two ends, about five of them.
function round([low, high]) {
  const rough = (high - low) / 5, ten = 10 ** Math.floor(Math.log10(rough)), step = ten * [1, 2, 5, 10].find((n) => n * ten >= 0.999 * rough);
  const first = Math.ceil(low / step), last = Math.floor(high / step);
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

function curves(el, figure, { picks = {}, pick, fresh = new Set() }) {
  const series = figure.series, wide = Math.max(el.clientWidth || 460, 240), low = ROOM.tall - ROOM.bottom;
  legendOf(el, series, figure.by);
  make(el, "div", { class: "quiet" }, figure.y);
  const svg = put(el, "svg", { width: wide, height: ROOM.tall, role: "group", "aria-label": figure.alt });
  const tried = [...new Set(series.flatMap((one) => one.points.map((point) => point.x)))].sort((a, b) => a - b);
  const log = figure.x.log && tried[0] > 0, marks = figure.marks.filter((mark) => !log || mark.lo > 0);
  const x = scale({ ends: around([...tried, ...marks.flatMap((mark) => [mark.lo, mark.hi])], log), log }, ROOM.left, wide - ROOM.right);
  const all = series.flatMap((one) => one.points.flatMap((point) => [point.mean, point.lo, point.hi].filter((v) => v !== null)));
  const ends = all.every((v) => v >= 0 && v <= 1) ? [0, 1] : around([0, ...all], false);
  const strip = 15 * marks.length, y = scale({ ends }, low, ROOM.top + strip);
  for (const at of round(ends)) {
    put(svg, "line", { x1: ROOM.left, x2: wide - ROOM.right, y1: y(at), y2: y(at), stroke: LINE });
    put(svg, "text", { x: ROOM.left - 6, y: y(at) + 4, "text-anchor": "end" }, shown(at));
  }
  let free = 0; // ticks stand at the values tried, as far as their words leave room
  for (const at of tried) {
    const half = 3.6 * shown(at).length;
    put(svg, "line", { x1: x(at), x2: x(at), y1: low, y2: low + 4, stroke: QUIET });
    if (x(at) - half < free) continue;
    put(svg, "text", { x: x(at), y: low + 17, "text-anchor": "middle" }, shown(at));
    free = x(at) + half + 5;
  }
  titled(svg, figure.x.title + (log ? " (log scale)" : ""), ROOM.left, wide, ROOM.tall - 6);
  for (const [i, { lo, hi, label }] of marks.entries()) { // what was published, each label on a line of its own
    const from = x(lo), to = x(hi), right = (from + to) / 2 > wide / 2, at = 11 + 15 * i;
    put(svg, "rect", { x: from - 0.75, width: Math.max(1.5, to - from), y: at, height: low - at, fill: QUIET, "fill-opacity": lo === hi ? 1 : 0.22, stroke: QUIET, "stroke-width": lo === hi ? 0 : 1 });
    put(svg, "text", { x: right ? from - 4 : to + 4, y: at, "text-anchor": right ? "end" : "start", class: "quiet" }, label);
  }
  if (figure.fit) symbol(svg, SHAPE[3], x(figure.fit.midpoint), y(figure.fit.plateau / 2), 6, { fill: INK }, figure.fit.sentence);
  const place = (at, i) => x(at) + 5 * (i - (series.length - 1) / 2);
  for (const [i, one] of series.entries()) {
    const { colour, dash, shape } = look(i);
    const path = one.points.map((point) => `${place(point.x, i)},${y(point.mean)}`).join(" ");
    put(svg, "polyline", { points: path, fill: "none", stroke: colour, "stroke-width": 2.2, "stroke-dasharray": dash });
    const isModel = (node, address) => {
      node.dataset.address = address;
      node.classList.add("model", ...(fresh.has(address) ? ["landed"] : []));
      if (!picks[address]) return;
      node.classList.add("picks");
      node.setAttribute("role", "button");
      node.addEventListener("click", () => pick(address));
    };
    for (const point of one.points) {
      if (point.lo !== null) put(svg, "line", { x1: place(point.x, i), x2: place(point.x, i), y1: y(point.lo), y2: y(point.hi), stroke: colour, "stroke-width": 2 });
      const words = `${one.name ? `${one.name}, ` : ""}${shown(point.x)}: ${inWords(point)}`;
      const node = numbered(symbol(svg, shape, place(point.x, i), y(point.mean), 4.6, { fill: colour }, words), point);
      const own = one.models.filter(([at]) => at === point.x);
      if (own.length === 1) isModel(node, own[0][2]); // it is its own mean
      for (const [k, [at, mean, address, seed, learned]] of own.length > 1 ? own.entries() : []) { // beside one another
        const about = `${shown(at)}: ${mean.toFixed(3)}, seed ${seed}${learned ? "" : ", has not learned its training set"}`;
        const beside = place(at, i) + 4 * (k - (own.length - 1) / 2);
        isModel(symbol(svg, shape, beside, y(mean), 2.8, { fill: PAPER, stroke: colour, "stroke-width": 1.2 }, about), address);
      }
    }
  }
}

// A name on at most two lines; what is too long even so is cut, and said to whoever points at it.
function wrapped(name, letters) {
  if (name.length <= letters) return [name];
  const space = name.lastIndexOf(" ", letters), at = space > 0 ? space : letters, rest = name.slice(at).trim();
  return [name.slice(0, at), rest.length > letters ? `${rest.slice(0, letters - 1)}…` : rest];
}

function lines(el, figure) { // one interval per line, from the left to the right
  const wide = Math.max(el.clientWidth || 460, 240), left = Math.min(0.45 * wide, 10 + 6.4 * Math.max(...figure.lines.map((line) => line.name.length)));
  const letters = Math.floor((left - 8) / 6.2), row = figure.lines.some(({ name }) => name.length > letters) ? 30 : ROOM.row;
  const low = row * figure.lines.length + 8, all = figure.lines.flatMap(({ mean, lo, hi }) => [mean, lo ?? mean, hi ?? mean]);
  const ends = all.every((v) => v >= 0 && v <= 1) && !figure.gains ? [0, 1] : around([0, ...all], false), x = scale({ ends }, left, wide - ROOM.right);
  const svg = put(el, "svg", { width: wide, height: low + ROOM.bottom, role: "group", "aria-label": figure.alt });
  for (const at of round(ends)) {
    put(svg, "line", { x1: x(at), x2: x(at), y1: 4, y2: low, stroke: LINE });
    put(svg, "text", { x: x(at), y: low + 17, "text-anchor": "middle" }, shown(at));
  }
  if (figure.gains) put(svg, "line", { x1: x(0), x2: x(0), y1: 4, y2: low, stroke: QUIET, "stroke-width": 1.5 });
  titled(svg, figure.x.title, left, wide, low + ROOM.bottom - 6);
  for (const [i, line] of figure.lines.entries()) {
    const at = row * (i + 0.5) + 4, name = line.name, words = wrapped(name, letters);
    const label = put(svg, "text", { y: at + 10 - 6 * words.length, "text-anchor": "end" });
    for (const [k, some] of words.entries()) put(label, "tspan", { x: left - 8, dy: 12 * k }, some);
    put(label, "title", {}, name);
    if (line.lo !== null) put(svg, "line", { x1: x(line.lo), x2: x(line.hi), y1: at, y2: at, stroke: PALETTE[0], "stroke-width": 2.4 });
    numbered(symbol(svg, SHAPE[0], x(line.mean), at, 4.6, { fill: PALETTE[0] }, `${name}: ${inWords(line)}`), line);
  }
}

function grid(el, figure) { // trained on (rows) against tested on (columns): the darker, the further from 0, the number beside; below 0 in orange
  const table = make(make(el, "div", { class: "wide" }), "table", { class: "grid" }), head = make(make(table, "thead"), "tr");
  make(head, "th", {}, "");
  for (const name of figure.columns) make(head, "th", { scope: "col" }, name);
  const body = make(table, "tbody"), cells = figure.rows.flatMap((row) => row.cells).filter(Boolean);
  const signed = cells.some((cell) => cell.mean < 0), most = signed ? Math.max(...cells.map((cell) => Math.abs(cell.mean))) : 1;
  for (const row of figure.rows) {
    const line = make(body, "tr");
    make(line, "th", { scope: "row" }, row.name);
    for (const cell of row.cells) {
      const node = make(line, "td", { class: cell?.framed ? "framed" : "" });
      if (!cell) continue;
      node.style.setProperty("--share", `${Math.round((60 * Math.abs(cell.mean)) / most)}%`);
      if (cell.mean < 0) node.style.setProperty("--shade", PALETTE[1]);
      node.title = `${row.name}: ${inWords(cell)}`;
      marked(node, node.title);
      numbered(make(node, "span", {}, cell.mean.toFixed(2).replace("-0.00", "0.00")), cell);
    }
  }
}

function drawFigure(el, figure, options = {}) {
  el.replaceChildren();
  ({ curve: curves, lines, grid })[figure.kind](el, figure, options);
  reachable(el, el.querySelector("svg[role], table"));
}
