"""Ability growth of fine-tuned models: the DoIT data set, QLoRA, and exams inside and outside its ten abilities.

The other half of `labkit.studies.ability_growth`, which says what is studied. A cell is one fine-tuning run, graded
once: volumes cannot share a run here, since a run repeats its examples for many epochs on a schedule of its own, so
that a smaller volume is no earlier moment of a larger one (the paper, too, trains each anew).

Guaranteed: exact numbers of examples; of one seed and source a smaller volume is the beginning of a larger one; a
volume beyond the data is refused, with how much there is. Every question is a cluster of its own.
Exams: of each ability the published test file; the entries of `exams`: files and folders of CMMLU, AGIEval or DoIT
(`cmmlu@5`: with five answered examples), or one of `OUTSIDE`. Bad questions, and those longer than the model's
positions, are left out and counted. By likelihood, closed questions take the likeliest answer and open ones are ranked
by perplexity; a written answer is parsed (closed), or must come to the right final answer or be the gold text (open:
for creative writing, role play and code that says next to nothing; read their likelihoods).
Decided here: LoRA on a 4-bit base instead of full fine-tuning. `PAPER` holds what carries over of the paper's
settings; AdamW's betas stay at (0.9, 0.999) where the paper has (0.9, 0.95), the rate falls to 0 and not to 1e-6, and
LoRA often wants a higher one (`tuning`). The last epoch is graded; of a dialogue only the last answer is learned.
The published synthetic data are one pool without abilities: an ability's part is every tenth of its seeded order, the
same number for each, unless a local copy has `synthetic/full/<ability>_full.json`.
Left open: whether training and test data overlap is counted by identical questions only (`seen_questions`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from labkit import learn
from labkit.design.mixture import digest
from labkit.errors import BadRequest, unknown
from labkit.grade import choice
from labkit.instructions import CORPORA, Example, exams, read
from labkit.instructions.corpora import fetch
from labkit.instructions.exams import Exam, Question, read_exam
from labkit.lab import Point, Record
from labkit.learn import qlora, scoring
from labkit.studies.tuned import Tuned, tune

if TYPE_CHECKING:
    from labkit.studies.ability_growth import Params

HUB = "doit"  # the corpus whose files are had from the hub; anything else is a local copy of it
POOL = "synthetic/40960/general_instruction_gpt4_41k.json"
OUTSIDE = ("ceval_physician", "ceval_teacher_qualification", "ceval_urban_and_rural_planner")
PAPER: dict[str, Any] = {
    "learning_rate": 1e-5,
    "schedule": "linear",
    "weight_decay": 0.1,
    "batch_size": 8,
    "accumulation": 8,  # the authors' eight GPUs
    "max_length": 2048,
}
EPOCHS = {10: 25, 40: 20, 160: 18}  # by the number of examples in all; else:
_EPOCHS = 15
Counts = Mapping[str, Mapping[str, int]]  # {ability: {source: examples}}


class TunedCell(Point):
    """One fine-tuned model, or the untrained base: everything its result depends on; files by name and content."""

    study: Literal["ability_growth"] = "ability_growth"
    version: Literal[1] = 1
    precision: str
    design: str
    arm: str
    source: str
    size: str
    seed: int
    abilities: tuple[str, ...]
    others: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    predicted: dict[str, Any] | None
    corpus: str
    exams: tuple[str, ...]
    digests: dict[str, str]
    settings: dict[str, Any]
    n_test: int
    new_tokens: int


class Part(NamedTuple):
    """Where the examples of an ability from a source lie: every `step`th of a seeded order, from `place` on."""

    file: Path
    place: int = 0
    step: int = 1


def available(params: "Params", model: str) -> dict[str, dict[str, int]]:
    """How many usable examples there are of each ability, by source.

    Raises:
        BadRequest: for an ability that DoIT has not, a source or a file that is not there.
    """
    _check(params.abilities, "ability", exams.DOIT)
    parts = {a: {source: _part(params.corpus, a, source) for source in params.sources} for a in params.abilities}
    return {
        ability: {source: len(range(p.place, len(_pool(p.file)[0]), p.step)) for source, p in sources.items()}
        for ability, sources in parts.items()
    }


def points(params: "Params", model: str) -> list[TunedCell]:
    """The base model, and for each seed, source and volume a run on so many examples of each ability.

    Raises:
        BadRequest: as `available`, and for a volume beyond the data.
    """
    have = available(params, model)
    volumes = [volume for volume in params.volumes if volume]
    for ability, sources in have.items():
        for source, count in sources.items():
            if short := [volume for volume in volumes if volume > count]:
                raise BadRequest(f"volumes: '{ability}' has {count} examples from '{source}', not {short[0]}")
    shared = _shared(params, model)
    base = _cell(params, model, shared, params.seeds[0], {}, design="untrained", arm="")
    return [base] + [
        _cell(params, model, shared, seed, counts, design="ladder", arm="all", source=source)
        for seed in params.seeds
        for source in params.sources
        for volume in volumes
        for counts in [{ability: {source: volume} for ability in params.abilities}]
    ]


def mixes(
    params: "Params", model: str, designs: Mapping[str, Counts], predicted: Mapping[str, dict[str, Any]]
) -> list[TunedCell]:
    """A run for each named design (design.plan counts it out) and each fresh seed.

    Raises:
        BadRequest: for a design that asks for more than there is.
    """
    have = available(params, model)
    for name, counts in designs.items():
        _check(counts, "ability", params.abilities)
        for ability, sources in counts.items():
            for source, count in sources.items():
                if count > have[ability].get(source, 0):
                    there = have[ability].get(source, 0)
                    raise BadRequest(f"{name}: '{ability}' has {there} examples from '{source}', not {count}")
    shared = _shared(params, model)
    return [
        _cell(params, model, shared, seed, counts, design="mix", arm=name, predicted=predicted.get(name))
        for seed in params.fresh_seeds
        for name, counts in designs.items()
    ]


def training_set(cell: TunedCell) -> list[Example]:
    """The examples of a cell, exactly as many as it says."""
    found = []
    for ability, sources in cell.counts.items():
        for source, count in sources.items():
            part = _part(cell.corpus, ability, source)
            pool = _pool(part.file)[0]
            own = 0 if part.step > 1 else 1 + exams.DOIT.index(ability)
            order = np.random.default_rng([cell.seed, own]).permutation(len(pool))[part.place :: part.step]
            found += [pool[i] for i in order[:count].tolist()]
    return found


def measure(cell: TunedCell, record: Record) -> dict[str, Any]:
    """Fine-tune one model (or load the base) and grade it on every exam."""
    examples, settings = training_set(cell), qlora.Finetuning(**cell.settings)
    if examples:
        tuned = tune(examples, settings, record)
    else:
        asked = {"revision": settings.revision, "quantisation": settings.quantisation, "template": settings.template}
        tuned = Tuned(*qlora.load(settings.model, **asked), {})
    volume = [sum(sources.values()) for sources in cell.counts.values()]
    row = {
        "exam": 0,
        "gradings": ["likelihood", "generated"] if cell.new_tokens else ["likelihood"],
        "volumes": [_whole(float(np.mean(volume))) if volume else 0],
        "totals": [len(examples)],
        "steps_taken": [tuned.about.get("tuning_steps", 0)],
        "tokens": [tuned.about.get("tokens", 0)],
        "train_seconds": tuned.about.get("train_seconds", 0.0),
        "loss": [tuned.about.get("loss")],
        "learned": True,
        "dropped": tuned.about.get("dropped", 0),
        "trainable": tuned.about.get("trainable", 0),
        "peak_bytes": tuned.about.get("peak_bytes"),
        "parameters": _parameters(tuned.model),
        "bad_examples": _bad(cell),
    }
    trained = {example.instruction for example in examples}
    for entry in (*cell.abilities, *cell.exams):
        exam = _exam(cell.corpus, entry)
        row |= _graded(exam, tuned, cell, record, trained)
    return row


def right(question: Question, answer: str) -> bool:
    """Whether a written answer is right: see the module."""
    said = answer.strip()
    if question.kind == "sets":
        return "".join(sorted(set(re.findall("[A-H]", said.splitlines()[-1] if said else "")))) == question.gold
    if question.kind == "open":
        return _comes_to(said, question.final) if question.final else said == question.gold.strip()
    options = question.options
    if len({" ".join(option.casefold().split()) for option in options}) < len(options):
        options = question.answers  # `Aa` and `aa` are different answers: only their letters tell them apart
    return choice.named_option(said, options) == question.right


def _graded(exam: Exam, tuned: Tuned, cell: TunedCell, record: Record, trained: set[str]) -> dict[str, Any]:
    """The columns of one exam."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(exam.questions))[: cell.n_test])
    asked = [(question, exam.ask(question)) for question in (exam.questions[i] for i in chosen.tolist())]
    room = getattr(tuned.model.config, "max_position_embeddings", None)
    sizes = scoring.sizes(tuned.tokenizer, [e for _, e in asked], [q.answers for q, _ in asked])
    fitting = [pair for pair, size in zip(asked, sizes.tolist(), strict=True) if room is None or size <= room]
    if not fitting:
        raise BadRequest(f"no question of {exam.name} fits into the {room} positions of '{cell.size}'")
    questions, prompts = [question for question, _ in fitting], [example for _, example in fitting]
    scores = scoring.score(tuned.model, tuned.tokenizer, prompts, [question.answers for question in questions])
    gold = np.array([question.right for question in questions])
    is_open = np.array([question.kind == "open" for question in questions])
    verdicts = {"likelihood": np.where(is_open, choice.pick(*scores), choice.pick(scores.total)) == gold}
    options = np.array([len(question.options) for question in questions])
    chances = {"likelihood": choice.chance_level(options)}
    if cell.new_tokens:
        written = qlora.answer(tuned.model, tuned.tokenizer, prompts, max_new_tokens=cell.new_tokens)
        verdicts["generated"] = np.array([right(q, text) for q, text in zip(questions, written, strict=True)])
        chances["generated"] = choice.chance_level(np.where(is_open, 0, options))
        with (record.folder / "answers.jsonl").open("a", encoding="utf-8") as file:
            for question, text in zip(questions, written, strict=True):
                line = {"exam": exam.name, "gold": question.final or question.gold, "answer": text}
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
    row: dict[str, Any] = {
        f"{exam.name}_bad": exam.bad.total(),
        f"{exam.name}_too_long": len(asked) - len(fitting),
        f"{exam.name}_seen_questions": sum(example.instruction in trained for example in prompts),
    }
    for grading, hits in verdicts.items():
        row |= {
            f"{exam.name}_{grading}_right": [hits.astype(int).tolist()],
            f"{exam.name}_{grading}_asked": [1] * len(hits),
            f"{exam.name}_{grading}_chance": chances[grading],
            f"accuracy_{exam.name}_{grading}": float(hits.mean()),
        }
    if cell.design == "untrained":
        own = np.arange(len(gold)), gold
        row |= {
            f"{exam.name}_nats": (-scores.total[own]).tolist(),
            f"{exam.name}_nats_tokens": scores.tokens[own].tolist(),
        }
    return row


def _shared(params: "Params", model: str) -> dict[str, Any]:
    """What all cells of a study have in common."""
    revision = params.tuning.get("revision")
    qlora.load_config(model, revision)
    entries = [entry if entry in OUTSIDE else str(Path(entry).resolve()) for entry in params.exams]
    others = [_exam(params.corpus, entry).name for entry in entries]
    names = [*params.abilities, *others]
    if twice := [name for name in names if names.count(name) > 1]:
        raise BadRequest(f"abilities and exams hold '{twice[0]}' twice: each exam is sat once")
    paths = [entry.partition("@")[0] for entry in entries if entry not in OUTSIDE]
    corpus = params.corpus if params.corpus == HUB else str(Path(params.corpus).resolve())
    files = [*paths, *([model] if Path(model).is_dir() else []), *([] if corpus == HUB else [corpus])]
    digests = {file: digest(Path(file)) for file in files}
    return {
        "precision": learn.precision_name(learn.best_device()),
        "size": Path(model).name,
        "abilities": params.abilities,
        "others": others,
        "corpus": corpus,
        "exams": entries,
        "digests": digests | ({HUB: CORPORA[HUB].revision} if corpus == HUB else {}),
        "n_test": params.n_test,
        "new_tokens": params.new_tokens,
    }


def _cell(params: "Params", model: str, shared: Mapping[str, Any], seed: int, counts: Counts, **what: Any) -> TunedCell:
    total = sum(sum(sources.values()) for sources in counts.values())
    length = {} if {"steps", "epochs"} & set(params.tuning) else {"epochs": EPOCHS.get(total, _EPOCHS)}
    settings = qlora.settings(model, "default", **{**PAPER, **length, **params.tuning, "seed": seed})
    own = {"seed": seed, "counts": counts, "settings": asdict(settings), "source": "curated", "predicted": None}
    return TunedCell.model_validate({**shared, **own, **what})


def _copy(corpus: str) -> str | None:
    """The local copy, None for the hub."""
    if corpus != HUB and not Path(corpus).is_dir():
        raise BadRequest(f"corpus = {corpus}: neither '{HUB}', for the hub, nor a folder with a copy of it")
    return None if corpus == HUB else corpus


def _part(corpus: str, ability: str, source: str) -> Part:
    copy = _copy(corpus)
    own = f"{source}/full/{ability}_full.json"
    if source == "synthetic" and (copy is None or not (Path(copy) / own).is_file()):
        return Part(fetch(HUB, POOL, copy), exams.DOIT.index(ability), len(exams.DOIT))
    if source not in ("curated", "synthetic") and (copy is None or not (Path(copy) / own).is_file()):
        raise unknown("source", source, ("curated", "synthetic"))
    return Part(fetch(HUB, own, copy))


def _pool(file: Path) -> tuple[list[Example], int]:
    """The usable examples of a file, and how many records are bad."""
    return _read_pool(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=32)
def _read_pool(file: Path, changed: int) -> tuple[list[Example], int]:
    reader = read(HUB, path=file, on_bad="skip")
    return list(reader), reader.bad.total()


def _bad(cell: TunedCell) -> int:
    files = {_part(cell.corpus, a, source).file for a, sources in cell.counts.items() for source in sources}
    return sum(_pool(file)[1] for file in files)


def _exam(corpus: str, entry: str) -> Exam:
    """An ability's test file, or an exam of `exams`."""
    if entry in (*exams.DOIT, *OUTSIDE):
        name = entry if entry in OUTSIDE else f"{entry}_test"
        return read_exam(fetch(HUB, f"curated/test/{name}.json", _copy(corpus)), on_bad="skip")
    path, _, shots = entry.partition("@")
    if shots and not shots.isdecimal():
        raise BadRequest(f"exams: {entry}: what follows @ is the number of answered examples")
    return read_exam(path, shots=int(shots or 0), on_bad="skip")


def _check(names: Sequence[str] | Counts, kind: str, allowed: Sequence[str]) -> None:
    for name in names:
        if name not in allowed:
            raise unknown(kind, name, allowed)


def _comes_to(text: str, final: str) -> bool:
    """Whether a worked answer ends in `final`: as its last boxed expression, else after its last `答案` or `answer`, or
    as its last number."""
    if boxed := re.findall(r"\\boxed\{((?:[^{}]|\{[^{}]*\})*)\}", text):
        return _plain(boxed[-1]) == _plain(final)
    tail = re.sub(r"^\s*(?:是|为|is)?\s*[:：]?", "", re.split("答案|[Aa]nswer", text)[-1])
    ends = [tail.strip().split("\n")[0], *re.findall(r"-?\d[\d,]*(?:\.\d+)?(?:/\d+)?", tail)[-1:]]
    return _plain(final) in map(_plain, ends)


def _plain(text: str) -> str:
    return re.sub(r"[\s,，$]|[.。]$", "", text)


def _parameters(model: Any) -> int:
    """The parameters of the base; transformers counts 4-bit ones for what they stand for."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    return int(base.num_parameters()) - sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value
