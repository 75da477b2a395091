// A panel that asks small models: rules and an input, the run of the rules step by step, each model's answer letter by
// letter, what a letter looked at, heads that can be switched off, and rules that fool a model.
const WAIT = () => new Promise((done) => setTimeout(done));

// How many of some questions (pattern, replacement, input, right answer) a model gets right; null when `stale()`.
async function graded(model, asked, off, stale = () => false) {
  const wrong = [];
  for (const [i, [x, y, z, right]] of asked.entries()) {
    if (i % 10 === 9) await WAIT();
    if (stale()) return null;
    if (model.answer([x, y, z], { off, target: right }).answer !== right) wrong.push([x, y, z, right]);
  }
  return { right: asked.length - wrong.length, of: asked.length, wrong };
}

const share = ({ right, of }) => `${right} of ${of} (${((100 * right) / of).toFixed(1)} %)`;

// Which heads answer: all, or all but those that are switched off.
const headsOf = (gone) => (gone.size ? `${gone.size === 1 ? "a head" : `${gone.size} heads`} off (${[...gone].sort().map((key) => key.split(".").map((n) => Number(n) + 1)).map(([l, h]) => `layer ${l}, head ${h}`).join("; ")})` : "all heads");

// `models`: [{address, name}]; `load(address)` promises {about, weights, asked, kinds}; `chosen`: the addresses that are
// asked at first; `practise(address, kind)`, where there is a kernel to train in.
function askPanel(el, { models, load, chosen = [], rules = "abc -> xyz", text = "dabcdabc", practise = null }) {
  el.classList.add("ask");
  const loaded = new Map(), off = new Map();
  const form = make(el, "div", { class: "fields" });
  const field = (name, node, value, label) => {
    const row = make(form, "label", {}, label), input = make(row, node, { spellcheck: "false", autocomplete: "off", name });
    input.value = value;
    input.addEventListener("input", ask);
    return [input, make(row, "span", { class: "problem", role: "status" })];
  };
  const [rulesField, rulesProblem] = field("rules", "textarea", rules, "rules, one per line");
  const [textField, textProblem] = field("text", "input", text, "input");
  const choice = make(form, "fieldset"), boxes = new Map();
  make(choice, "legend", {}, "models");
  const trace = make(el, "div"), heads = make(el, "div", { class: "heads" }), fooled = make(el, "div", { class: "fooled" });
  let looking = null, turn = 0, pressed = null; // which letter of whose answer is looked into: {address, step, place}; `pressed`: and is to keep the focus

  function offer({ address, name }, checked) {
    const label = make(choice, "label"), box = make(label, "input", { type: "checkbox", value: address });
    box.checked = checked;
    box.addEventListener("change", ask);
    label.append(` ${name}`);
    boxes.set(address, { box, name });
  }
  for (const model of models) offer(model, chosen.includes(model.address));

  async function get(address) { // asked for once, however often it is wanted meanwhile
    if (!loaded.has(address)) loaded.set(address, load(address).then((parts) => ({ ...parts, model: smallModel(parts.about, parts.weights) })));
    try {
      return await loaded.get(address);
    } catch (error) {
      loaded.delete(address);
      throw error;
    }
  }

  async function ask() {
    const mine = ++turn, { rules: read, problem = "" } = readRules(rulesField.value), input = textField.value.trim();
    const strange = (letters) => [...letters].find((letter) => letter < "a" || letter > "z");
    const foreign = strange(input), odd = strange((read ?? []).map((rule) => rule.pattern + rule.replacement).join(""));
    rulesProblem.textContent = problem || (odd ? `“${odd}” in the rules is not one of the letters from a to z` : "");
    textProblem.textContent = !input ? "the input is empty: type letters from a to z"
      : foreign ? `“${foreign}” in the input is not one of the letters from a to z`
      : input.length > 40 ? `the input has ${input.length} letters: 40 at most` : "";
    if (rulesProblem.textContent || textProblem.textContent) return [trace, heads].forEach((part) => part.replaceChildren());
    const wanted = [...boxes].filter(([, { box }]) => box.checked), asked = [];
    try {
      for (const [address, { name }] of wanted) asked.push({ address, name, kept: await get(address) });
    } catch (error) {
      return trace.replaceChildren(`this model could not be had: ${error.message}`);
    }
    if (mine !== turn) return;
    const run = runRules(read, input), body = make(null, "div", { class: "trace" });
    if (run.endless) rulesProblem.textContent = `these rules do not end on this input: ${run.halted}`;
    run.steps.slice(0, 12).forEach((step, number) => rowOf(body, step, number, asked));
    const last = make(body, "div", { class: "step" }), more = run.steps.length > 12 ? `; the first 12 of ${run.steps.length} steps are shown` : "";
    lettersOf(partOf(last, `after ${run.steps.length} step${run.steps.length === 1 ? "" : "s"}: ${run.halted}${more}`), run.output);
    if (!run.steps.length) make(last, "span", { class: "problem" }, "no rule applies, so no model is asked");
    trace.replaceChildren(body);
    if (pressed) trace.querySelector(`[data-of="${pressed}"] button:nth-of-type(${looking.place + 1})`)?.focus();
    pressed = null;
    lookInto(asked, run);
  }

  function partOf(row, label) {
    const part = make(row, "div", { class: "part" });
    make(part, "small", {}, label);
    return part;
  }

  function rowOf(body, step, number, asked) { // parts that wrap: no step is wider than its place
    const row = make(body, "div", { class: "step" }), { rule, before, at, after } = step;
    make(partOf(row, `step ${number + 1}, rule`), "code", {}, `${rule.pattern} ->${rule.stop ? "." : ""} ${rule.replacement}`);
    lettersOf(partOf(row, "the text"), before, { framed: [at, at + rule.pattern.length] });
    lettersOf(partOf(row, "becomes"), after, { framed: [at, at + rule.replacement.length] });
    for (const { address, name, kept: { model } } of asked) {
      const part = partOf(row, name), parts = [rule.pattern, rule.replacement, before], refused = model.refusal(parts);
      if (refused) {
        make(part, "span", { class: "problem" }, refused);
        continue;
      }
      const { answer } = model.answer(parts, { off: off.get(address) });
      part.dataset.of = `${number} ${address}`;
      lettersOf(part, answer, { right: after, press: (place) => { [looking, pressed] = [{ address, step: number, place }, part.dataset.of]; ask(); } });
    }
  }

  function lookInto(asked, run) {
    const found = looking && asked.find((one) => one.address === looking.address), step = looking && run.steps[looking.step];
    if (!found || !step) return heads.replaceChildren();
    const parts = [step.rule.pattern, step.rule.replacement, step.before];
    if (found.kept.model.refusal(parts)) return heads.replaceChildren();
    const gone = off.get(found.address) ?? new Set(), { answer, prompt, looks } = found.kept.model.answer(parts, { off: gone });
    const place = Math.min(looking.place, looks.length - 1), seen = prompt + answer.slice(0, place);
    const panel = make(null, "div");
    make(panel, "p", {}, `What letter ${place + 1}, “${answer[place]}”, of ${found.name} looked at: a tall bar is a long look. A head without its tick is switched off.`);
    const table = make(make(panel, "div", { class: "wide" }), "table", { class: "attention" }), head = make(make(table, "thead"), "tr");
    make(head, "th", {}, "layer, head");
    for (const letter of seen) make(head, "th", {}, letter);
    const body = make(table, "tbody");
    looks[place].forEach((layer, l) => layer.forEach((shares, h) => {
      const row = make(body, "tr"), label = make(make(row, "th", { scope: "row" }), "label"), key = `${l}.${h}`;
      const box = make(label, "input", { type: "checkbox", value: key });
      box.checked = !gone.has(key);
      label.append(` ${l + 1}, ${h + 1}`);
      box.addEventListener("change", () => {
        off.set(found.address, new Set(box.checked ? [...gone].filter((one) => one !== key) : [...gone, key]));
        ask().then(() => heads.querySelector(`input[value="${key}"]`)?.focus());
      });
      for (const [at, part] of shares.entries()) {
        const cell = make(row, "td", { title: `“${seen[at]}”: ${(100 * part).toFixed(0)} % of the look` });
        marked(cell, cell.title);
        make(cell, "i", { style: `height: ${Math.round(22 * part)}px` });
      }
    }));
    const said = make(panel, "p", { role: "status", class: "said" }, "");
    heads.replaceChildren(panel);
    reachable(panel, table);
    sayAccuracy(said, found.kept, gone, turn);
  }

  async function sayAccuracy(said, found, gone, mine) {
    const stale = () => mine !== turn;
    said.textContent = `asking ${found.asked.length} rules that the model has never seen …`;
    found.whole ??= await graded(found.model, found.asked, new Set(), stale) ?? undefined;
    const now = gone.size && !stale() ? await graded(found.model, found.asked, gone, stale) : found.whole;
    if (stale() || !now) return;
    said.textContent = gone.size ? `Unseen rules followed with all heads: ${share(found.whole)}. With ${gone.size === 1 ? "one head" : `${gone.size} heads`} off: ${share(now)}.`
      : `Unseen rules followed with all heads: ${share(found.whole)}.`;
  }

  // Kinds of questions, the share that the first chosen model gets wrong of each, and examples to look into.
  const button = make(fooled, "button", { type: "button", class: "fool" }, "Find rules that fool the first chosen model");
  const kinds = make(fooled, "div", { class: "wide" });
  button.addEventListener("click", async () => {
    const [address, { name }] = [...boxes].find(([, { box }]) => box.checked) ?? [null, {}];
    if (!address) return kinds.replaceChildren("choose a model first");
    if (button.getAttribute("aria-disabled")) return; // at work; a button that is really disabled would lose the focus
    let one;
    try {
      one = await get(address);
    } catch (error) {
      return kinds.replaceChildren(`this model could not be had: ${error.message}`);
    }
    const gone = new Set(off.get(address)), table = make(null, "table", { class: "kinds" }), head = make(make(table, "thead"), "tr");
    for (const words of [`kind of question, asked of ${name} with ${headsOf(gone)}`, "wrong", "", "such as"]) make(head, "th", { scope: "col" }, words);
    kinds.replaceChildren(table);
    const body = make(table, "tbody");
    button.setAttribute("aria-disabled", "true");
    for (const [kind, asked] of Object.entries(one.kinds ?? {})) {
      const row = make(body, "tr"), found = await graded(one.model, asked, gone);
      make(row, "th", { scope: "row" }, kind);
      make(row, "td", { class: "n" }, `${found.wrong.length} of ${found.of}`);
      make(make(make(row, "td"), "span", { class: "bar" }), "i", { style: `width: ${(100 * found.wrong.length) / found.of}%` });
      const examples = make(row, "td");
      for (const [x, y, z] of found.wrong.slice(0, 3)) {
        const example = make(examples, "button", { type: "button" }, `${x} -> ${y} on ${z}`);
        example.addEventListener("click", () => {
          [rulesField.value, textField.value] = [`${x} -> ${y}`, z];
          ask();
          trace.scrollIntoView({ block: "nearest" });
        });
      }
      if (practise) make(examples, "button", { type: "button", class: "practise" }, "train it on this kind").addEventListener("click", () => practise(address, kind));
    }
    button.removeAttribute("aria-disabled");
  });

  ask();
  return {
    add(model) { if (!boxes.has(model.address)) offer(model, true); else boxes.get(model.address).box.checked = true; return ask(); },
    ask,
  };
}
