"""The files around the package agree with each other and with the two commands of the README."""

import ast
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9_.-]+", requirement)
    assert found
    return found.group().lower()


def direct_dependencies() -> dict[str, str]:
    """Every direct dependency, with its requirement."""
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    return {name_of(requirement): requirement for group in groups for requirement in group}


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {name.lower(): version for name, version in pins}


def conda() -> dict[str, str]:
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry for entry in listed if isinstance(entry, dict))["pip"]
    pins = [entry.split("==") for entry in pip if not entry.startswith("--")]
    return {name.lower(): version for name, version in pins}


def test_every_direct_dependency_is_pinned_and_nothing_else() -> None:
    assert set(constraints()) == set(direct_dependencies())


def test_the_conda_environment_is_in_step() -> None:
    assert conda() == constraints()


def test_pins_satisfy_the_ranges() -> None:
    from packaging.requirements import Requirement

    for name, requirement in direct_dependencies().items():
        assert Requirement(requirement).specifier.contains(constraints()[name]), name


def test_the_tested_versions_are_installed() -> None:
    from importlib.metadata import PackageNotFoundError, version

    for name, pin in constraints().items():
        try:
            assert version(name).split("+")[0] == pin
        except PackageNotFoundError:
            assert name in {name_of(requirement) for requirement in PROJECT["optional-dependencies"]["qlora"]}


def test_the_readme_shows_the_two_commands_and_they_exist() -> None:
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for command in ("demo", "test"):
        assert re.search(rf"^\s*make {command}\b", readme, re.MULTILINE)
        assert re.search(rf"^{command}:", makefile, re.MULTILINE)
    for target in ("check", "lab", "bench", "gpu", "help"):
        assert re.search(rf"^{target}:.*##", makefile, re.MULTILINE)


def test_make_help_lists_the_targets() -> None:
    listed = subprocess.run(["make", "-C", str(ROOT), "help"], capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "lab", "bench"):
        assert re.search(rf"^{target}\b", listed, re.MULTILINE)


def test_the_top_level_holds_what_was_agreed() -> None:
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not files:
        pytest.skip("not a git checkout")
    assert {file.split("/")[0] for file in files} == {
        *("notebooks", "labkit", "environment.yml", "papermill_runs", "tests", "README.md"),
        *("pyproject.toml", "constraints.txt", "Makefile", "LICENSE", "LABLOG.md", ".ci", ".gitignore"),
    }


ORDER = ["instructions", "design", "learn", "grade", "teach", "lab", "show"]


@pytest.mark.parametrize("room", ORDER)
def test_imports_point_one_way(room: str) -> None:
    """A room imports from itself and from rooms to its left, and from no study."""
    allowed = {"errors", "BadRequest", "__version__", *ORDER[: ORDER.index(room) + 1]}
    for path in (ROOT / "labkit" / room).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "labkit":
                inner = node.module.split(".")[1:2] or [alias.name for alias in node.names]
                assert set(inner) <= allowed, f"{path.name} imports {inner}"
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("labkit.") for alias in node.names)


def test_the_core_needs_no_notebook_package() -> None:
    """On a GPU machine without them, studies are still found, measured and stored."""
    absent = ["altair", "papermill", "vl_convert", "ipywidgets", "duckdb", "pandas", "IPython", "jinja2", "nbformat"]
    absent += ["openai", "starlette", "uvicorn"]
    script = (
        "import sys\n"
        f"for name in {absent}: sys.modules[name] = None\n"
        "from labkit import instructions, design, learn, grade, lab, studies\n"
        "from labkit.studies.diversity_sweep import STUDY, points\n"
        "params = STUDY.resolve({'scale': 'smoke', 'n_instructions': [4], 'steps': 2})\n"
        "print(lab.sweep(points(params), STUDY.measure, jobs=0)[0]['n_instructions'])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "4"


NOTEBOOK = str(ROOT / "notebooks" / "long_tail.ipynb")
CHECKED = f"from labkit.lab.execute import Path, check_notebook; check_notebook(Path({NOTEBOOK!r}))"


@pytest.mark.parametrize("what", ["import labkit.show", CHECKED])
def test_no_grammar_of_addresses_is_compiled_by_the_way(what: str) -> None:
    """jsonschema would compile it for longer than all of Altair takes; whoever wants it can still import it."""
    script = f"import sys\n{what}\nprint('rfc3987_syntax' in sys.modules, 'jsonschema' in sys.modules)\n"
    script += "import jsonschema, rfc3987_syntax"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["False", "True"]), done.stderr


def code_lines(path: Path) -> int:
    """Lines that hold code: no blank lines, comments or docstrings."""
    source, docstrings, lines = path.read_text(), set(), set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            docstrings |= set(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in layout:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docstrings)


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    paths = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "labkit").rglob("*.py")}
    return {name.removesuffix(".__init__"): path for name, path in paths.items()}


MODULES = modules()


def imported(path: Path) -> set[str]:
    """The package's modules that one imports, inside functions and under TYPE_CHECKING, too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            found |= {part if part in MODULES else node.module for part in parts.values()} & set(MODULES)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(MODULES)
    return found


IMPORTS = {name: imported(path) - {name} for name, path in MODULES.items()}


def circles() -> list[set[str]]:
    """Modules that import one another, over however many others."""
    reach = {name: set(direct) for name, direct in IMPORTS.items()}
    while True:
        wider = {name: found.union(*(reach[other] for other in found)) for name, found in reach.items()}
        if wider == reach:
            break
        reach = wider
    groups = {name: frozenset(other for other in found if name in reach[other]) for name, found in reach.items()}
    return [set(group) for group in {group for name, group in groups.items() if name in group}]


def test_no_modules_import_one_another() -> None:
    assert [sorted(circle) for circle in circles()] == []


def study_of(module: str) -> str | None:
    """The study that a module is, or is a part of: a module or a package that defines STUDY."""
    name = ".".join(module.split(".")[:3])
    return name if name in MODULES and re.search(r"^STUDY\b", MODULES[name].read_text(), re.MULTILINE) else None


def test_nothing_imports_a_study_but_those_that_see_every_room() -> None:
    """What two studies share is no study; the others are found by name (`labkit.studies.find`)."""
    for module, direct in IMPORTS.items():
        others = {other for other in direct if (study := study_of(other)) and study != study_of(module)}
        free = {"labkit.bench", "labkit.cli", "labkit.studies.toys"}
        assert not others or module in free or module.startswith("labkit.commands."), (
            f"{module} imports {sorted(others)}"
        )


PACKAGES = {"curriculum": 450, "ability_growth": 450}  # studies that are packages


def test_studies_are_small() -> None:
    """A study is its design, its lesson and its views: under 160 lines, or 450 with all its parts."""
    sizes: dict[str, int] = {}
    for module, path in MODULES.items():
        if study := study_of(module):
            sizes[study] = sizes.get(study, 0) + code_lines(path)
    limits = {study: PACKAGES.get(study.split(".")[-1], 160) for study in sizes}
    assert len(sizes) == 18
    assert {study: lines for study, lines in sizes.items() if lines >= limits[study]} == {}


# What came after the rebuild was planned: its lines are its own, and are not room for anything else.
BEYOND = {
    *(
        "grade/power.py",
        "instructions/constraints.py",
        "instructions/plain_text.py",
        "lab/runs.py",
        "learn/embedded.py",
    ),
    *("bench/gpu.py", "bench/language.py", "learn/decoding.py", "learn/probe.py", "learn/tuning_step.py"),
    *(
        "learn/live.py",
        "show/tour.py",
        "studies/ability_transfer.py",
        "studies/loss_weighting.py",
        "studies/means.py",
        "studies/past.py",
    ),
    *("studies/registration.py", "table.py", "commands/store.py", "commands/sweeps.py", "commands/which_data.py"),
    "commands/runs.py",
    *(f"lab/{name}.py" for name in ("batch", "cluster", "marks", "timing", "tracking", "upkeep", "work", "workers")),
    *("design/audit.py", "design/diversity.py", "design/mix_finder.py", "learn/embedders.py", "show/atlas.py"),
    *("studies/audits.py", "studies/correlated.py", "studies/diversity_measures.py", "studies/mix_finder.py"),
    *("grade/next_count.py", "studies/mix_problems.py", "studies/mix_search.py", "studies/searched.py"),
    *("learn/adamw.py", "studies/levels.py", "instructions/kinds.py", "studies/figures.py", "studies/playing.py"),
    *("show/asking.py", "show/choice.py", "show/panel.py", "show/wall.py", "studies/wall.py", "studies/wrong.py"),
    *("design/bandits.py", "instructions/told_families.py", "studies/automatic_curricula.py", "studies/ranks.py"),
    *("design/scorer.py", "studies/foretelling.py"),
    *("studies/which_teacher.py", "teach/imperfect.py", "design/selection.py", "learn/appraisal.py"),
    "learn/vectors.py",
    *("studies/selection.py", "studies/appraised.py", "studies/pools.py", "studies/selecting.py"),
    *("studies/selected.py", "studies/selected_files.py", "lab/light.py"),
    *("grade/ifeval.py", "grade/written.py", "instructions/demands.py", "instructions/written_exams.py"),
    *("commands/exams.py", "studies/generalist_mix.py", "studies/generalist_mixes.py"),
    *("commands/trust.py", "studies/followed_sets.py", "studies/read_abilities.py", "studies/read_exams.py"),
    *("teach/language_model.py", "teach/trust.py"),
    *("studies/answers.py", "studies/exercises.py"),
    *("show/glossary.py", "show/idea.py", "show/slides.py", "show/teaching.py", "commands/teaching.py"),
}


def test_modules_and_package_stay_small() -> None:
    """A module is read in one sitting. What the package did before the rebuild was to fit into 14,000 lines: LABLOG.md
    says what stands against that, and what was added since."""
    lines = {path.relative_to(ROOT / "labkit").as_posix(): code_lines(path) for path in (ROOT / "labkit").rglob("*.py")}
    assert {name: n for name, n in lines.items() if n >= 475} == {}
    assert set(lines) >= BEYOND
    rooms: dict[str, int] = {}
    for name, n in lines.items():
        if name not in BEYOND:
            rooms[name.split("/")[0]] = rooms.get(name.split("/")[0], 0) + n
    report = ", ".join(f"{room} {n:,}" for room, n in sorted(rooms.items(), key=lambda item: -item[1]))
    assert sum(rooms.values()) < 19_440, f"{sum(rooms.values()):,} code lines: {report}"
    assert sum(lines[name] for name in BEYOND) < 7_810
