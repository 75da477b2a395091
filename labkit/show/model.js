// A small transformer of labkit in plain JavaScript: it reads a question, writes the answer letter after letter, and
// says what each letter looked at. The arithmetic is that of `labkit/learn/transformer.py`, in double precision.

function numbersOf(base64) { // float32, little endian
  const text = atob(base64), bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
  return new Float32Array(bytes.buffer);
}

// `about`: {shape, layout} of model.json, and where in the numbers each weight begins, as {name: [start, length]}.
function smallModel({ shape, layout, places }, base64) {
  const numbers = numbersOf(base64), { vocabulary: V, layers, width: D, heads: H, expansion, context } = shape;
  const part = (name) => numbers.subarray(places[name][0], places[name][0] + places[name][1]), deep = D / H;
  const symbols = layout.alphabet + "|=" + (layout.padded ? "." : "");
  const tokens = part("tokens"), positions = part("positions"), head = part("head");
  const blocks = Array.from({ length: layers }, (_, i) => Object.fromEntries(
    ["qkv", "out", ...(expansion ? ["up", "down"] : [])].map((name) => [name, part(`blocks.${i}.${name}`)])));

  function norm(x) {
    let mean = 0, square = 0;
    for (const value of x) mean += value / D;
    for (const value of x) square += (value - mean) ** 2 / D;
    const scale = 1 / Math.sqrt(square + 1e-5);
    return x.map((value) => (value - mean) * scale);
  }

  function times(weight, x, from, rows) { // `rows` rows of a matrix, from one on, times a vector
    const made = new Float64Array(rows), wide = x.length;
    for (let row = 0, at = from * wide; row < rows; row++) {
      let a = 0, b = 0, c = 0, d = 0; // four sums at a time: half the time (widths are multiples of four, or nearly)
      let i = 0;
      for (; i + 3 < wide; i += 4, at += 4) {
        a += weight[at] * x[i];
        b += weight[at + 1] * x[i + 1];
        c += weight[at + 2] * x[i + 2];
        d += weight[at + 3] * x[i + 3];
      }
      for (; i < wide; i++) a += weight[at++] * x[i];
      made[row] = a + b + c + d;
    }
    return made;
  }

  function attend(q, keys, values, h) {
    const scores = keys.map((key) => {
      let sum = 0;
      for (let i = h * deep; i < (h + 1) * deep; i++) sum += q[i] * key[i];
      return sum / Math.sqrt(deep);
    });
    const most = Math.max(...scores), raised = scores.map((score) => Math.exp(score - most));
    const total = raised.reduce((a, b) => a + b, 0), shares = raised.map((value) => value / total);
    const mixed = new Float64Array(deep);
    shares.forEach((share, t) => { for (let i = 0; i < deep; i++) mixed[i] += share * values[t][h * deep + i]; });
    return { shares, mixed };
  }

  // Reads one token more; `past` holds the tokens, keys and values so far. `off` names heads, as "layer.head", whose
  // output is left out. Where the answer begins, gives the scores of the next token and what every head looked at.
  function read(past, token, off, answers) {
    past.tokens.push(token);
    const at = past.tokens.length - 1, looked = [];
    let x = new Float64Array(D);
    for (let back = 0; back < context; back++) {
      const row = (past.tokens[at - back] ?? V) + back * (V + 1);
      for (let i = 0; i < D; i++) x[i] += tokens[row * D + i];
    }
    x = norm(x.map((value, i) => value + positions[at * D + i]));
    blocks.forEach((block, layer) => {
      const normed = norm(x), { keys, values } = past.layers[layer];
      keys.push(times(block.qkv, normed, D, D));
      values.push(times(block.qkv, normed, 2 * D, D));
      if (layer === layers - 1 && !answers) return; // the last block works only where the answer is
      const q = times(block.qkv, normed, 0, D), joined = new Float64Array(D);
      for (let h = 0; h < H; h++) {
        const { shares, mixed } = attend(q, keys, values, h);
        if (answers) (looked[layer] ??= []).push(shares);
        if (!off.has(`${layer}.${h}`)) joined.set(mixed, h * deep);
      }
      const added = times(block.out, joined, 0, D);
      x = x.map((value, i) => value + added[i]);
      if (expansion) {
        const hidden = times(block.up, norm(x), 0, expansion * D).map((value) => Math.max(0, value));
        const more = times(block.down, hidden, 0, D);
        x = x.map((value, i) => value + more[i]);
      }
    });
    return answers ? { scores: times(head, norm(x), 0, V), looked } : null;
  }

  // What is wrong with a question, in a sentence; "" for one that the model can read.
  function refusal(parts) {
    for (const [i, text] of parts.entries()) {
      const name = layout.names[i], foreign = [...text].find((letter) => !layout.alphabet.includes(letter));
      if (foreign !== undefined) return `“${foreign}” in the ${name} is not one of the letters that this model knows`;
      const fits = layout.padded ? text.length <= layout.widths[i] : text.length === layout.widths[i];
      if (!fits) return `the ${name} has ${text.length} letters; this model was trained on ${layout.widths[i]}`;
    }
    return "";
  }

  // The answer to a question given in parts, what was read, and what each letter of the answer looked at, as
  // looks[letter][layer][head][place]. With `target`: may stop at the first letter that is not the target's.
  function answer(parts, { off = new Set(), target = null } = {}) {
    const filled = parts.map((text, i) => text.padEnd(layout.widths[i], "."));
    const prompt = filled.join("|") + "=", looks = [];
    const past = { tokens: [], layers: blocks.map(() => ({ keys: [], values: [] })) };
    let made = null, written = "";
    [...prompt].forEach((symbol, at) => {
      made = read(past, symbols.indexOf(symbol), off, at === prompt.length - 1);
    });
    while (written.length < layout.answer) {
      const best = made.scores.indexOf(Math.max(...made.scores));
      looks.push(made.looked);
      written += symbols[best];
      if (target !== null && written.at(-1) !== target[written.length - 1]) break;
      if (written.length < layout.answer) made = read(past, best, off, true);
    }
    return { answer: layout.padded ? written.replace(/\.+$/, "") : written, prompt, looks };
  }

  return { answer, refusal, layout, shape };
}

// Whole Markov algorithms, as `labkit/instructions/markov.py` runs them.
function readRules(text) {
  const rules = [];
  for (const [number, line] of text.split("\n").entries()) {
    const rule = line.split("#")[0], sides = rule.match(/^\s*(\S*?)\s*->(\.?)\s*(\S*)\s*$/);
    if (sides && rule.split("->").length === 2) rules.push({ pattern: sides[1], stop: sides[2] === ".", replacement: sides[3] });
    else if (rule.trim()) return { problem: `line ${number + 1}: “${rule.trim().slice(0, 40)}${rule.trim().length > 40 ? "…" : ""}” is not a rule: write x -> y, or x ->. y to stop` };
  }
  return rules.length ? { rules } : { problem: "there is no rule: write one per line, such as abc -> xyz" };
}

function runRules(rules, text, most = 100, longest = 200) {
  const steps = [];
  for (;;) {
    const number = rules.findIndex((rule) => text.includes(rule.pattern));
    if (number < 0) return { steps, output: text, halted: "no rule applies" };
    if (steps.length === most) return { steps, output: text, endless: true, halted: `not over after ${most} steps` };
    const rule = rules[number], at = text.indexOf(rule.pattern);
    const after = text.slice(0, at) + rule.replacement + text.slice(at + rule.pattern.length);
    if (after.length > longest) return { steps, output: text, endless: true, halted: `the text grows beyond ${longest} letters` };
    steps.push({ number, rule, before: text, at, after });
    text = after;
    if (rule.stop) return { steps, output: text, halted: "stop rule" };
  }
}
