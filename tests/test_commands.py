"""What holds for every command: signals, exit codes, terminals, paths, refusals; each tried on all of them at once."""

import errno
import io
import json
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import typer
from command import labkit

from labkit import BadRequest, cli
from labkit import commands as commands_room
from labkit.commands import command
from labkit.studies import parse_value

COMMANDS = sorted(command.name or "" for command in cli.app.registered_commands)


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """Commands that do what is asked of them here, under the names and through the entry point of the real ones."""
    does: dict[str, object] = {}
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    monkeypatch.setattr(cli, "app", app)

    def body() -> None:
        does["it"]()  # type: ignore[operator]

    for name in COMMANDS:
        command(name, of=app)(body)
    return does


def raising(error: BaseException) -> object:
    def body() -> None:
        raise error

    return body


def test_every_command_is_registered_in_the_one_way() -> None:
    source = "".join(path.read_text() for path in Path(commands_room.__file__).parent.glob("*.py"))
    grouped = sum(len(group.typer_instance.registered_commands) for group in cli.app.registered_groups)
    assert len(COMMANDS) + grouped == len(re.findall(r"^@command\(", source, re.MULTILINE)) > 10


@pytest.mark.parametrize("name", COMMANDS)
def test_ctrl_c_is_an_exit_code_and_a_sentence(name: str, commands: dict[str, object]) -> None:
    commands["it"] = raising(KeyboardInterrupt())
    done = labkit(name)
    assert (done.returncode, done.stderr) == (130, "labkit: interrupted\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_ask_to_leave_do_as_ctrl_c(
    number: int, commands: dict[str, object], request: pytest.FixtureRequest
) -> None:
    for name in (signal.SIGTERM, signal.SIGHUP):  # a test before this one may have left a library's handler behind
        request.addfinalizer(partial(signal.signal, name, signal.signal(name, signal.SIG_DFL)))
    commands["it"] = lambda: signal.raise_signal(number)
    assert labkit("studies").returncode == 130
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # put back


@pytest.mark.parametrize("name", ["run", "sweep"])
def test_what_can_be_resumed_says_so_on_ctrl_c(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labkit.studies.find", lambda _: signal.raise_signal(signal.SIGINT))
    done = labkit(name, "diversity_sweep")
    assert done.returncode == 130
    assert "what was finished is in the store" in done.stderr


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (BadRequest("no such thing"), 2, "labkit: no such thing\n"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), 1, "labkit: No space left on device: x\n"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "y"), 1, "labkit: File name too long: y\n"),
        (PermissionError(errno.EACCES, "Permission denied"), 1, "labkit: Permission denied\n"),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1, ""),
        (ModuleNotFoundError("No module", name="duckdb"), 2, "labkit: this needs duckdb, which is not installed"),
    ],
)
def test_what_ends_a_command_is_one_sentence(
    error: Exception, code: int, sentence: str, commands: dict[str, object]
) -> None:
    commands["it"] = raising(error)
    done = labkit("studies")
    assert done.returncode == code
    assert done.stderr.startswith(sentence)
    assert done.stderr.count("\n") <= 1


def test_a_fault_of_our_own_is_not_hidden(commands: dict[str, object]) -> None:
    commands["it"] = raising(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        labkit("studies")
    commands["it"] = raising(ModuleNotFoundError("No module", name="labkit.missing"))
    with pytest.raises(ModuleNotFoundError):
        labkit("studies")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8", "shift_jis"])
def test_a_terminal_shows_what_it_can(
    encoding: str, commands: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On both streams, and in processes started from here."""
    outs = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    marks = "⟦ä☃\ud800⟧"

    def body() -> None:
        print(marks)
        raise BadRequest(marks)

    commands["it"] = body
    monkeypatch.setattr(sys, "argv", ["labkit", "studies"])
    monkeypatch.setattr(sys, "stdout", outs[0])
    monkeypatch.setattr(sys, "stderr", outs[1])
    monkeypatch.setenv("PYTHONIOENCODING", encoding)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    for out in outs:
        out.flush()
        shown = out.buffer.getvalue().decode(encoding)
        assert r"\ud800" in shown
        assert (marks[0] in shown) == (encoding == "utf-8")
    assert os.environ["PYTHONIOENCODING"] == f"{encoding}:backslashreplace"


class FullDisk(io.StringIO):
    """Where nothing can be written any more, which shows when it is flushed."""

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_output_that_cannot_be_written_is_said(
    commands: dict[str, object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands["it"] = lambda: print("much")
    monkeypatch.setattr(sys, "argv", ["labkit", "studies"])
    monkeypatch.setattr(sys, "stdout", FullDisk())
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert (left.value.code, capsys.readouterr().err) == (1, "labkit: No space left on device\n")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder of the test's own, and a working folder."""
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "home"


class Noted(list[str]):
    """A corpus without examples."""

    notes = ("not used: id",)


def test_the_home_folder_is_found_in_every_path(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "swap.markov").write_text("ab -> ba\n")
    assert labkit("markov", "~/swap.markov", "aab").stdout == "baa\n"
    assert labkit("markov", "~/swap.markov", "~/ab").stdout == "~/ba\n"  # an input is no path
    assert str(home / "none.yaml") in labkit("mix", "~/none.yaml", "--out", "~/mixed").stderr
    assert str(home / "a") in labkit("code-eval", "--samples=~/a", "--problems=~/b").stderr
    assert str(home / "runs") in labkit("results", LABKIT_RUNS="~/runs").stderr
    assert parse_value("~/problems.jsonl") == str(home / "problems.jsonl")
    seen = {}
    monkeypatch.setattr("labkit.instructions.corpora.read", lambda data: seen.setdefault("data", data) and Noted())
    monkeypatch.setattr("labkit.learn.qlora.settings", lambda model, *_, **__: seen.setdefault("model", model))
    monkeypatch.setattr("labkit.learn.qlora.finetune", lambda _, __, out: raising(BadRequest(str(out)))())  # type: ignore[operator]
    done = labkit("finetune", "--data=~/d.jsonl", "--model=~/m", "--out=~/o")
    assert str(home / "o") in done.stderr
    assert done.stdout == "note: not used: id\n"
    assert seen == {"data": str(home / "d.jsonl"), "model": str(home / "m")}
    assert list(Path.cwd().iterdir()) == []


def test_a_refusal_leaves_no_new_folder(home: Path) -> None:
    spec = home / "spec.yaml"
    spec.write_text("no: mixture\n")
    assert labkit("mix", spec, "--out", home / "new" / "deep").returncode == 2
    (home / "old").mkdir()
    assert labkit("mix", spec, "--out", home / "old").returncode == 2
    assert sorted(path.name for path in home.iterdir()) == ["old", "spec.yaml"]


@pytest.mark.parametrize(
    "words",
    [
        ["markov", "/dev/zero", "a"],
        ["mix", "/dev/zero", "--out", "x"],
        ["code-eval", "--samples", "/dev/zero"],
        ["code-eval", "--samples", "a", "--out", "/dev/null"],
        ["run", "diversity_sweep", "--out", "/dev/null"],
        ["pretrain", "--out", "/dev/null"],
        ["ask", "/dev/zero", "--instruction", "x"],
    ],
)
def test_devices_are_no_files(words: list[str], home: Path) -> None:
    done = labkit(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is a device, not a file or a folder" in done.stderr


WITH_OUT = {
    "glossary": [],
    "slides": ["RUN"],
    "compare": ["A", "B"],
    "select": ["pool.jsonl", "--budget=5", "--method=random"],
    "find-mix": ["spec.yaml", "--target=pool.jsonl"],
    "judge-outputs": ["pool.jsonl", "pool.jsonl", "--judge=oracle"],
    "code-eval": ["--samples=pool.jsonl"],
    "audit": ["pool.jsonl"],
}


@pytest.mark.parametrize("name", WITH_OUT)
@pytest.mark.parametrize("out", ["folder", "pool.jsonl/x", "x" * 300])
def test_a_result_that_cannot_be_kept_is_refused_before_work(name: str, out: str, home: Path) -> None:
    record = {"instruction": "Say a", "output": "a", "generator": "g"}
    Path("pool.jsonl").write_text(json.dumps([record]), "utf-8")
    for place in ("folder", "folder.html"):
        Path(place).mkdir()
    ending = ".html" if name == "compare" else ""
    if (name, out) == ("audit", "folder"):  # it wants one
        out = "pool.jsonl/.."
    done = labkit(name, *WITH_OUT[name], "--out", out + ending)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "cannot write to" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ["select", "pool.jsonl", "--budget=5", "--method=random", "--out=pool.jsonl"],
        ["select", "pool.jsonl", "--budget=5", "--method=random", "--out=./folder/../pool.jsonl"],
        ["find-mix", "pool.jsonl", "--target=other.jsonl", "--out=pool.jsonl"],
        ["find-mix", "spec.yaml", "--target=other.jsonl", "--out=pool.jsonl"],
        ["judge-outputs", "other.jsonl", "pool.jsonl", "--judge=oracle", "--out=pool.jsonl"],
        ["code-eval", "--samples=pool.jsonl", "--out=pool.jsonl"],
        ["code-eval", "--samples=pool.jsonl", "--problems=pool.results.json"],
        ["exam", "smollm2", "--data=folder", "--out=folder"],
    ],
)
def test_no_result_takes_the_place_of_what_is_read(words: list[str], home: Path) -> None:
    Path("folder").mkdir()
    for name in ("pool.jsonl", "other.jsonl", "pool.results.json"):
        Path(name).write_text("kept\n", "utf-8")
    one = {"path": "pool.jsonl", "weight": 0.5}
    Path("spec.yaml").write_text(json.dumps({"sources": [one, one | {"path": "other.jsonl"}], "examples": 9}), "utf-8")
    done = labkit(*words)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is what this command reads" in done.stderr
    assert Path("pool.jsonl").read_text("utf-8") == Path("pool.results.json").read_text("utf-8") == "kept\n"


def test_a_base_model_is_no_file(home: Path) -> None:
    (home / "file").touch()
    assert "is a file: name a folder" in labkit("pretrain", "--out", home / "file").stderr


@pytest.mark.parametrize("text", ["0", "", "1,", "²", "1.5", "-1", "٣", "9" * 5000, "1,0"])
def test_sizes_that_are_none_are_refused(text: str, home: Path) -> None:
    done = labkit("code-eval", "--samples", "nowhere.jsonl", f"--k={text}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--k takes whole numbers from 1" in done.stderr


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 5000 + "]" * 5000, '{"a":' * 5000, "[" * 25 + "]" * 25])
def test_values_nested_without_end_are_refused(text: str) -> None:
    with pytest.raises(BadRequest, match="nested too deeply"):
        parse_value(text)
    assert parse_value("[[[1]]]") == [[[1]]]


@pytest.mark.parametrize("name", ["LABKIT_JOBS", "LABKIT_FLEET"])
@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "²", "9" * 5000])
def test_a_wrong_environment_is_refused_before_a_notebook_starts(name: str, value: str, own_store: Path) -> None:
    done = labkit("run", "diversity_sweep", "--scale", "smoke", **{name: value})
    assert done.returncode == 2
    assert name in done.stderr
    assert not own_store.exists()
