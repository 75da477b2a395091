// What all our pages draw with: SVG nodes, axes, and letters of which right and wrong are told apart without colour.
// Colours are the page's own: a report's variables, else JupyterLab's.
const INK = "var(--ink, var(--jp-content-font-color0, #1b1b1b))", QUIET = "var(--quiet, var(--jp-content-font-color2, #6a6a6a))";
const PAPER = "var(--paper, var(--jp-layout-color0, #fff))", LINE = "var(--line, var(--jp-border-color2, #e2e2e2))";
const PALETTE = ["#0068ad", "#e08a00", "#80459a", "#3aabdf", "#b0400f", "#48b382"];

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
