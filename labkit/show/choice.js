// Labels of which one is chosen, or any number, with keys that do not leave them.
export default {
  render({ model, el }) {
    const group = document.createElement("fieldset"), several = model.get("several"), name = `choice${Math.random()}`;
    group.style.cssText = "border: 0; margin: 0; padding: 2px 0; display: flex; flex-wrap: wrap; gap: 2px 14px";
    group.setAttribute("data-lm-suppress-shortcuts", "true"); // JupyterLab's
    const stay = (event) => event.stopPropagation();
    for (const kind of ["keydown", "keyup", "keypress"]) group.addEventListener(kind, stay);
    group.append(Object.assign(document.createElement("legend"), { textContent: model.get("title") }));
    const boxes = model.get("labels").map((text, place) => {
      const box = Object.assign(document.createElement("input"), { type: several ? "checkbox" : "radio", name });
      const label = group.appendChild(document.createElement("label"));
      label.append(box, ` ${text}`);
      box.addEventListener("change", () => {
        model.set("chosen", boxes.flatMap((one, i) => (one.checked ? [i] : [])));
        model.save_changes();
      });
      return box;
    });
    const show = () => boxes.forEach((box, i) => { box.checked = model.get("chosen").includes(i); });
    model.on("change:chosen", show);
    show();
    el.appendChild(group);
  },
};
