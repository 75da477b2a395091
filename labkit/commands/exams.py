"""A command about public exams: a language model sits them in writing."""

from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import TEXT, command
from labkit.table import print_table


@command("exam", interrupted="interrupted; answers are kept as they come, and the same command goes on from there")
def sit_exams(
    model: Annotated[str, typer.Argument(**TEXT, help="a Hugging Face id, a folder of `finetune`, or smollm2")],
    data: Annotated[Path, typer.Option(help="folder with ifeval/, gsm8k/, bbh/, agieval/ as published")],
    out: Annotated[Path, typer.Option(help="folder for the answers and result.json")],
    exams: Annotated[str, typer.Option(metavar="NAME,...", help="of ifeval, gsm8k, bbh, agieval")] = "ifeval,gsm8k,bbh",
    questions: Annotated[int | None, typer.Option(min=2, help="of each exam, at random; default all")] = None,
    new_tokens: Annotated[int | None, typer.Option(min=1, help="the longest answer; default: the exam's")] = None,
    rows: Annotated[int, typer.Option(min=1, help="questions that are answered at once")] = 16,
    plain: Annotated[
        bool, typer.Option("--plain", help="ask as a text to go on with, not as a chat: few-shot exams were")] = False,
) -> None:  # fmt: skip
    """Sit public exams in writing: scores with intervals, beside the model card where there is one."""
    from labkit.design.mixture import digest
    from labkit.grade import written
    from labkit.instructions import written_exams
    from labkit.lab import ensure_writable, provenance, write_json
    from labkit.learn import embedded, qlora

    asked = {name.strip(): written_exams.read(name.strip(), data)[:questions] for name in exams.split(",")}
    longest = {name: new_tokens or written.NEW_TOKENS[name] for name in asked}
    ensure_writable(out)
    loaded = qlora.load(model)
    for name, each in asked.items():
        written.check(each, *loaded, longest[name], plain)
    folder = Path(model).is_dir()
    revision = embedded.revision(model) if embedded.is_converted(model) else digest(Path(model)) if folder else ""
    written.refuse_other(out, {"model": Path(model).name if folder else model, "revision": revision})
    card = embedded.MODELS[model].card if model in embedded.MODELS else {}
    results = []
    for name, each in asked.items():
        said = written.sit(*loaded, each, out / f"{name}.jsonl", new_tokens=longest[name], rows=rows, plain=plain)
        results += written.results(each, said, card)
    write_json(
        out / "result.json",
        {"model": model, "revision": revision, "plain": plain, "results": results, "made": provenance()},
    )
    print_table(results)
    print(f"result: {out / 'result.json'}")
