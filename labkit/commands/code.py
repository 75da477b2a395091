"""Commands about programs and teachers: judge programs, serve a teacher."""

import json
from pathlib import Path
from typing import Annotated

import typer

from labkit.commands import command
from labkit.entry import leave
from labkit.errors import BadRequest
from labkit.table import print_each, print_table


@command("code-eval")
def evaluate_code(
    samples: Annotated[Path, typer.Option(help="JSON lines of {task_id, completion | solution}")],
    problems: Annotated[
        Path | None,
        typer.Option(help="HumanEval- or MBPP-shaped, .jsonl, .json or .jsonl.gz; with --plus, EvalPlus'")] = None,
    k: Annotated[str, typer.Option(metavar="K1,K2,...", help="the k of pass@k")] = "1",
    workers: Annotated[int | None, typer.Option(min=1, help="programs at a time; default one per core")] = None,
    out: Annotated[Path | None, typer.Option(help="result; default SAMPLES with the ending .results.json")] = None,
    plus: Annotated[str | None,
                    typer.Option(help="humaneval or mbpp: EvalPlus' added tests, on labkit's own judge")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="take the program out of a fenced block")] = False,
    confirm_unsafe: Annotated[
        bool, typer.Option("--confirm-unsafe", help="without bubblewrap, run the programs unprotected")] = False,
) -> None:  # fmt: skip
    """Run a model's programs against their tests in a sandbox: pass@k and every outcome."""
    from labkit.grade import code_eval
    from labkit.grade import plus as evalplus
    from labkit.lab import ensure_file, write_text
    from labkit.lab.places import refuse_overwriting

    sizes = code_eval.parse_k(k)
    if not samples.is_file():
        raise BadRequest(f"no file {samples}")
    out = out or samples.with_suffix(".results.json")
    ensure_file(out)
    if problems and out.exists():  # also where it follows from SAMPLES
        refuse_overwriting(out, [problems])
    partial = out.with_name(out.name + ".partial")
    try:
        if plus:
            found = evalplus.find(plus, problems)
            given = code_eval.load_samples(samples, evalplus.load_problems(found), markdown=markdown)
            result = evalplus.evaluate(plus, given, found, sizes, workers=workers, unsafe=confirm_unsafe)
        elif problems is None:
            raise BadRequest("--problems is missing: a file of problems, unless --plus names a set evalplus can fetch")
        else:
            known = code_eval.load_problems(problems)
            given = code_eval.load_samples(samples, known, markdown=markdown)
            result = code_eval.evaluate(known, given, sizes, workers=workers, unsafe=confirm_unsafe, partial=partial)
    except evalplus.Failed as error:
        leave(str(error), 1)
    except KeyboardInterrupt:
        leave("interrupted" if plus else f"interrupted; the same command goes on from the verdicts in {partial}", 130)
    write_text(out, json.dumps(result, indent=1) + "\n")
    partial.unlink(missing_ok=True)
    print_table(code_eval.table(result, sizes))
    first = (result["base"] if plus else result)[f"pass@{sizes[0]}"]
    print(f"{first['n_samples']} programs for {first['n_problems']} problems; intervals over {first['over']}")
    if not plus:
        print(", ".join(f"{count} {outcome}" for outcome, count in result["outcomes"].items()))
        print_each("", code_eval.remarks(result))
    print(f"sandbox: {result['sandbox']}\nresult: {out}")


@command("serve-teacher")
def serve_teacher(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8080,
    models: Annotated[list[str] | None,
                      typer.Option("--model", help="oracle, or oracle:noise=1.5,wrong=0.1 (repeatable)")] = None,
) -> None:  # fmt: skip
    """Serve the instruction families' oracles as a teacher and judge, in the protocol of a hosted model."""
    from labkit.teach import server

    server.serve(port, models=models or ["oracle"])
