// What all our pages draw with: SVG nodes, axes, and letters of which right and wrong are told apart without colour.
// Colours are the page's own: a report's variables, else JupyterLab's.
const INK = "var(--ink, var(--jp-content-font-color0, #1b1b1b))", QUIET = "var(--quiet, var(--jp-content-font-color2, #6a6a6a))";
const PAPER = "var(--paper, var(--jp-layout-color0, #fff))", LINE = "var(--line, var(--jp-border-color2, #e2e2e2))";
const PALETTE = ["#0068ad", "#e08a00", "#9a32bd", "#3aabdf", "#b0400f", "#48b382"];

function put(parent, name, attributes, text = "") {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return parent.appendChild(node);
}

function scale({ ends, log }, from, to) {
  const f = log ? Math.log : (v) => v, [low, high] = ends.map(f);
  return (value) => from + ((f(Math.min(Math.max(value, ends[0]), ends[1])) - low) / (high - low)) * (to - from);
}

function make(parent, name, attributes = {}, text = "") { // an HTML node
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== "") node.textContent = text;
  parent?.appendChild(node);
  return node;
}

// What the mouse shows of a mark, the keyboard shows, too: of the marks in a box one is a tab stop, the arrow keys go on to
// the others, Enter is a click, Escape hides the words. A mark is `marked`, and its words stand in `el` while it has the focus.
function marked(node, words) {
  node.setAttribute("tabindex", -1);
  node.setAttribute("aria-label", words);
  return node;
}

function reachable(el, box) {
  const marks = [...box.querySelectorAll("[tabindex]")];
  if (!marks.length) return;
  const style = `position: absolute; margin: 0; padding: 2px 6px; max-width: 100%; box-sizing: border-box; pointer-events: none; background: ${PAPER}; color: ${INK}; border: 1px solid ${QUIET}; z-index: 1`;
  const told = make(el, "p", { class: "told", "aria-hidden": "true", style, hidden: "" });
  el.style.position = "relative";
  marks[0].setAttribute("tabindex", 0);
  box.addEventListener("focusin", ({ target }) => {
    if (!marks.includes(target)) return;
    for (const mark of marks) mark.setAttribute("tabindex", mark === target ? 0 : -1);
    told.textContent = target.getAttribute("aria-label");
    told.hidden = false;
    const at = target.getBoundingClientRect(), place = el.getBoundingClientRect();
    const left = Math.min((at.left + at.right) / 2 - place.left - told.offsetWidth / 2, place.width - told.offsetWidth);
    told.style.cssText = `${style}; left: ${Math.max(0, left)}px; top: ${at.bottom - place.top + 6}px`;
  });
  box.addEventListener("focusout", () => { told.hidden = true; });
  box.addEventListener("keydown", (event) => {
    const from = event.target, now = marks.indexOf(from), ways = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 };
    if (now < 0 || event.altKey || event.ctrlKey || event.metaKey) return;
    let next = { Home: marks[0], End: marks.at(-1) }[event.key] ?? marks[now + ways[event.key]];
    if (from.cellIndex && event.key in ways && /Up|Down/.test(event.key)) { // a table's cell: to the next row
      const row = from.parentNode[ways[event.key] > 0 ? "nextElementSibling" : "previousElementSibling"];
      next = row?.cells[from.cellIndex];
    }
    if (event.key === "Escape") told.hidden = true;
    else if (event.key === "Enter") from.dispatchEvent(new MouseEvent("click"));
    else if (!(event.key in ways) && !next) return;
    if (marks.includes(next)) next.focus();
    event.preventDefault();
  });
}

// Letters in boxes. Against what is right: ✓ stands below a right letter, ✗ and dashes mark a wrong one. `framed` gives
// the places of a match, [from, to); `press(place)` makes letters buttons.
function lettersOf(parent, text, { right = null, framed = [0, 0], press = null } = {}) {
  const row = make(parent, "span", { class: "letters" });
  [...(right === null ? text : text.padEnd(right.length, "·"))].forEach((letter, place) => {
    const good = right === null || letter === right[place];
    const kind = `letter${good ? "" : " wrong"}${place >= framed[0] && place < framed[1] ? " match" : ""}`;
    const box = make(row, press ? "button" : "span", { class: kind }, letter);
    if (right !== null) make(box, "small", {}, good ? "✓" : "✗");
    if (press) {
      box.type = "button";
      box.setAttribute("aria-label", `letter ${place + 1}, ${letter}, ${good ? "right" : "wrong"}: what did it look at?`);
      box.addEventListener("click", () => press(place));
    }
  });
  return row;
}
