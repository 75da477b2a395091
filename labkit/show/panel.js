// The panel of `ask.js` as a notebook's widget: the kernel sends the models, and trains.
export default {
  render({ model, el }) {
    const waiting = new Map(), place = make(el, "div"), said = make(el, "p", { role: "status", class: "ask" });
    el.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's
    for (const kind of ["keydown", "keyup", "keypress"]) el.addEventListener(kind, (event) => event.stopPropagation());
    const load = (address) => new Promise((done, fail) => {
      waiting.set(address, { done, fail });
      model.send({ want: "model", address });
    });
    const panel = askPanel(place, {
      ...Object.fromEntries(["models", "chosen", "rules", "text"].map((name) => [name, model.get(name)])), load,
      practise: (address, kind) => model.send({ want: "practise", address, kind }),
    });
    model.on("msg:custom", ({ address, parts, problem, added }) => {
      if (added) panel.add(added);
      else if (problem) waiting.get(address)?.fail(new Error(problem));
      else waiting.get(address)?.done(parts);
    });
    const say = () => { said.textContent = model.get("said"); };
    model.on("change:said", say);
    say();
  },
};
