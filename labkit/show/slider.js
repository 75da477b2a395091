// A whole number on a log scale: the browser's own range, whose keys stay in it and which says its number in words.
export default {
  render({ model, el }) {
    const name = model.get("name"), [min, max] = model.get("ends").map(Math.log10);
    const row = make(el, "div", { style: "display: flex; align-items: center; gap: 10px; max-width: 640px; padding: 4px" });
    make(row, "span", { "aria-hidden": "true" }, name);
    const range = make(row, "input", { type: "range", min, max, step: "any", "aria-label": `number of ${name}`, style: "flex: 1; min-width: 0" });
    const number = make(row, "span", { "aria-hidden": "true", style: "min-width: 4em" });
    row.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's
    for (const kind of ["keydown", "keyup", "keypress"]) row.addEventListener(kind, (event) => event.stopPropagation());
    const say = (n) => {
      number.textContent = n.toLocaleString("en");
      range.setAttribute("aria-valuetext", `${number.textContent} ${name}`);
    };
    const chosen = () => Math.round(10 ** Number(range.value));
    range.addEventListener("input", () => say(chosen()));
    range.addEventListener("change", () => {
      model.set("value", chosen());
      model.save_changes();
    });
    const show = () => {
      if (chosen() !== model.get("value")) range.value = Math.log10(model.get("value"));
      say(model.get("value"));
    };
    model.on("change:value", show);
    show();
  },
};
