// The wall: draws `data` (labkit/studies/wall.py), and draws it anew when a server has news of a sweep.
const SIGNS = { supports: "✓", contradicts: "✗", "cannot tell": "?", "not tested here": "–" };
const byId = (id) => document.getElementById(id), live = location.protocol.startsWith("http") && byId("data").textContent === "null";
const picked = new Map(), twins = new Set(), inside = new Map([...document.querySelectorAll(".model-data")].map((node) => [node.dataset.address, node]));
let wall = live ? null : JSON.parse(byId("data").textContent), known = new Set(), panel = null, asks = false;

async function fetched(path) {
  const answer = await fetch(path), told = await answer.json();
  if (!answer.ok) throw new Error(told.problem);
  return told;
}

const load = (address) => {
  if (inside.has(address)) return Promise.resolve(JSON.parse(inside.get(address).textContent));
  if (live) return fetched(`model/${address}`);
  return Promise.reject(new Error(`this page does not hold it; \`labkit wall\` serves every model, and \`labkit ask ${address}\` asks it`));
};

const later = new IntersectionObserver((seen) => { for (const { target, isIntersecting } of seen) if (isIntersecting) { later.unobserve(target); target.drawn?.(); } }, { rootMargin: "50%" });
addEventListener("beforeprint", () => { for (const node of byId("studies").children) node.drawn?.(); });

const runOf = (study, id) => (id === "open" ? study.open : study.runs.find((run) => run.id === id));
const shownId = (study) => picked.get(study.name) ?? (study.open && (study.training.length || !study.runs.length) ? "open" : study.runs[0]?.id);
const titleOf = (run) => `${run.time || run.id}, ${run.scale}${Object.keys(run.differs ?? {}).length ? ", changed" : ""}, ${run.points} models`;

function numbersTable(figure) {
  const table = make(null, "table"), head = make(make(table, "thead"), "tr"), body = make(table, "tbody");
  const rows = figure.kind === "curve" ? figure.series.flatMap((one) => one.points.map((point) => [one.name, shown(point.x), inWords(point)]))
    : figure.kind === "lines" ? figure.lines.map((line) => [line.name, "", inWords(line)])
    : figure.rows.flatMap((row) => row.cells.flatMap((cell, i) => (cell ? [[row.name, figure.columns[i], inWords(cell)]] : [])));
  for (const name of ["", figure.kind === "curve" ? figure.x.title : "", "mean [95 %]"]) make(head, "th", { scope: "col" }, name);
  for (const row of rows) {
    const line = make(body, "tr");
    for (const cell of row) make(line, "td", {}, cell);
  }
  return table;
}

function card(study, fresh) {
  const id = shownId(study), run = runOf(study, id), broad = run?.figure?.kind === "grid" && run.figure.columns.length > 5;
  const node = make(null, "article", { id: study.name, class: broad ? "broad" : "" });
  make(node, "h3", {}, `${study.name} · ${study.points.toLocaleString("en")} models`);
  make(node, "p", { class: "question" }, study.question);
  for (const point of study.training) {
    const look = Object.entries(point).filter(([name]) => name.startsWith("accuracy_")).map(([name, value]) => `${name.slice(9)} ${value.toFixed(2)}`);
    make(node, "p", { class: "now" }, `training now: ${point.what}${point.step ? `, step ${point.step} of ${point.steps ?? "?"}: ${look.join(", ")}` : ""}`);
  }
  if (study.damaged) make(node, "p", { class: "now" }, `${study.damaged} of its points cannot be read: labkit store check names them`);
  if (!run) return node; // its first model is in training
  if (run.figure) make(node, "p", { class: "quiet" }, run.figure.title);
  const figure = make(node, "div", { class: "figure" });
  const finding = run.finding ?? `A sweep that is not finished: ${run.points}${run.of ? ` of ${run.of}` : ""} models so far. No finding yet.`;
  if (run.scale === "smoke") make(node, "p", { class: "now" }, "Smoke scale: these numbers mean nothing; they show that the study runs.");
  make(node, "p", { class: "finding" }, finding);
  const claims = make(node, "ul", { class: "claims", "aria-label": "beside what was published" });
  for (const claim of run.claims ?? []) {
    const item = make(claims, "li", { title: `ours: ${claim.ours}` });
    make(item, "b", {}, SIGNS[claim.verdict] ?? "?");
    item.append(`${claim.verdict}: “${claim.published}” (${claim.source})`);
  }
  for (const end of (run.endpoint ?? []).slice(0, 1)) if (Object.keys(end).length > 1) make(node, "p", { class: "quiet" }, Object.entries(end).map(([name, value]) => `${name}: ${value}`).join("; "));
  choices(node, study, id, run);
  const more = run.figure || run.claims?.length ? make(node, "details") : null;
  if (more) make(more, "summary", {}, "numbers");
  for (const claim of run.claims ?? []) make(more, "p", {}, `“${claim.published}”: ours ${claim.ours}`); // as under the mouse
  if (run.figure) {
    make(more, "div", { class: "wide" }).append(numbersTable(run.figure));
    node.drawn = () => {
      node.drawn = null; // once: who is in it by keyboard stays there
      drawFigure(figure, run.figure, { fresh, picks: asks ? study.models : {}, pick: (address) => join(study, address) });
    };
  }
  return node;
}

function choices(node, study, id, run) {
  const row = make(node, "p"), ids = [...(study.open ? ["open"] : []), ...study.runs.map((one) => one.id)];
  if (ids.length > 1) {
    const label = make(row, "label", {}, "run "), select = make(label, "select");
    for (const one of ids) make(select, "option", { value: one }, one === "open" ? "what is not finished" : titleOf(runOf(study, one)));
    select.value = id;
    select.addEventListener("change", () => { picked.set(study.name, select.value); draw(); byId(study.name).querySelector("select").focus(); });
  } else if (id !== "open") make(row, "span", { class: "quiet" }, titleOf(run));
  if (id === "open" || !run.figure || study.runs.length < 2) return;
  const label = make(row, "label", {}, " "), box = make(label, "input", { type: "checkbox" }), key = `${study.name} ${id}`;
  box.checked = twins.has(key);
  label.append(" compare with another run of this study");
  box.addEventListener("change", () => {
    if (!box.checked) twins.delete(key);
    else {
      for (const other of [...twins]) if (!other.startsWith(`${study.name} `) || twins.size > 1) twins.delete(other);
      twins.add(key);
    }
    draw();
    if (twins.size === 2) byId("two").scrollIntoView({ behavior: "smooth" });
    else byId(study.name).querySelector("input").focus();
  });
}

// Two runs of one study: both curves in one figure, the parameters that differ, and the means' differences.
async function compare() {
  const place = byId("two"), keys = [...twins].map((key) => key.split(" "));
  if (!keys.length) return place.replaceChildren();
  const study = wall.studies.find((one) => one.name === keys[0][0]), runs = keys.map(([, id]) => runOf(study, id));
  place.replaceChildren();
  make(place, "h2", {}, `Two runs of ${study.name}`);
  if (runs.length < 2) return make(place, "p", {}, `A: ${titleOf(runs[0])}. Choose another run of this study above, and tick it, too.`);
  runs.forEach((run, i) => make(place, "p", {}, `${"AB"[i]}: ${titleOf(run)} (${run.id})`));
  const differing = Object.keys({ ...runs[0].params, ...runs[1].params }).filter((name) => JSON.stringify(runs[0].params[name]) !== JSON.stringify(runs[1].params[name]));
  make(place, "p", {}, differing.length ? `Parameters that differ: ${differing.map((name) => `${name} (A ${JSON.stringify(runs[0].params[name])}, B ${JSON.stringify(runs[1].params[name])})`).join("; ")}.` : "No parameter differs.");
  if (runs.every((run) => run.figure.kind === "curve")) {
    const series = runs.flatMap((run, i) => run.figure.series.map((one) => ({ ...one, name: `${"AB"[i]} ${one.name}` })));
    drawFigure(make(place, "div", { class: "figure" }), { ...runs[0].figure, series, fit: null });
  }
  const said = make(place, "p", { class: "quiet" }, `Paired differences with their intervals: labkit compare ${runs[0].id} ${runs[1].id}`);
  if (!live) return;
  try {
    const lines = await fetched(`compare/${runs[0].id}/${runs[1].id}`), table = make(null, "table"), head = make(make(table, "thead"), "tr");
    for (const name of Object.keys(lines[0] ?? {})) make(head, "th", { scope: "col" }, name);
    for (const line of lines) {
      const row = make(table, "tr");
      for (const value of Object.values(line)) make(row, "td", {}, typeof value === "number" && !Number.isInteger(value) ? value.toFixed(4) : String(value ?? ""));
    }
    said.replaceWith(table);
  } catch (error) {
    said.textContent = error.message;
  }
}

function join(study, address) {
  panel.add({ address, name: study.models[address].split(":")[0] });
  byId("panel").querySelector(`input[value="${address}"]`).focus({ preventScroll: true });
  byId("asking").scrollIntoView({ behavior: "smooth" });
}

function draw() {
  const now = new Set(wall.studies.flatMap((study) => Object.keys(study.models))), fresh = known.size ? new Set([...now].filter((one) => !known.has(one))) : new Set();
  known = now;
  const place = byId("studies"), begun = (study) => study.points || study.runs.length || study.training.length;
  const cards = wall.studies.filter(begun).map((study) => card(study, fresh)), others = wall.studies.filter((study) => !begun(study));
  byId("others").textContent = others.length ? `Not run yet in this store: ${others.map((study) => study.name).join(", ")}. A run: labkit run ${others[0].name}.` : "";
  const had = document.activeElement.closest("article"), stops = "[tabindex], a, input, select, summary"; // the focus stays where it was
  const held = had ? [...had.querySelectorAll(stops)].indexOf(document.activeElement) : -1;
  place.replaceChildren(...cards);
  later.disconnect(); // a figure is drawn once it is near what is seen, and all of them before a print
  const far = cards.map((node) => node.getBoundingClientRect().top > 1.5 * innerHeight);
  for (const [i, node] of cards.entries()) far[i] && !(held >= 0 && node.id === had.id) ? later.observe(node) : node.drawn?.();
  if (held >= 0) byId(had.id)?.querySelectorAll(stops)[held]?.focus({ preventScroll: true });
  byId("store").textContent = `${wall.points.toLocaleString("en")} trained models, ${wall.studies.filter((one) => one.runs.length).length} studies with results, ${wall.made}${live ? "; points land here while a sweep runs" : ""}`;
  compare();
}

function start() {
  const every = wall.studies.flatMap((study) => Object.entries(study.models).map(([address, words]) => ({ address, name: words.split(":")[0] })));
  const offered = live ? wall.carried : [...inside.keys()];
  const models = offered.map((address) => every.find((one) => one.address === address)).filter(Boolean);
  asks = every.length > 0 && (live || models.length > 0);
  draw();
  if (!asks) byId("asking").remove();
  else panel = askPanel(byId("panel"), { models, load, chosen: [offered[0], offered.at(-1)] });
  let wide = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== wide) { wide = innerWidth; draw(); } });
  document.documentElement.dataset.ready = Math.round(performance.now());
}

if (!live) start();
else {
  let version = "";
  const look = async () => {
    try {
      const told = await fetched(`data?${version}`);
      if (told.version !== version) {
        version = told.version;
        const first = !wall;
        wall = told;
        (first ? start : draw)();
      }
    } catch (error) {
      byId("store").textContent = `the server does not answer: ${error.message}`;
    }
    setTimeout(look, 2000);
  };
  look();
}
