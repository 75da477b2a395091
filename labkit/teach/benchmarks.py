"""MT-Bench and AlpacaEval: questions read, answers judged, and both written so that the public tools can re-score them.

MT-Bench (Zheng et al. 2023, arXiv 2306.05685): 80 questions of two turns in eight categories. Files are FastChat's:
`question.jsonl`, answers and references one record a question, judgments one record a turn, where a score of -1 stands
for none; its `show_result` reads what is written here. AlpacaEval (Li et al. 2023; Dubois et al. 2024, arXiv
2404.04475): outputs are the JSON list that `alpaca_eval --model_outputs` takes, annotations the list it writes, with
the reference as `output_1` and a preference from 1 (reference) to 2 (model), 1.5 for a tie, null for none.

Guaranteed: what is written and read again is equal; a file is written whole and renamed; counts say what has no score;
a score or preference of null or NaN is none, and a field of another kind is refused by its record.
Left open: the judge's prompts are labkit's, so scores are comparable with each other and not with a leaderboard; no
correction for length.
"""

import json
import math
import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit.errors import BadRequest
from labkit.grade.intervals import Estimate
from labkit.instructions import Example
from labkit.teach.judge import TIE, Comparison, Contest, Judge, Scores, clustered
from labkit.teach.prompts import Pair

PROMPTS = ("labkit-single-v1", "labkit-single-v1-multi-turn")  # which texts a judgment answers, by turn
WINNERS = (None, "model_1", "model_2", "tie", "error")
NO_SCORE = -1

Turns = tuple[str, ...]
Texts = Mapping[int, Sequence[str]]  # by question


class Question(NamedTuple):
    """A question of MT-Bench (or of Vicuna's, of one turn); `reference` is empty where there is none."""

    id: int
    category: str
    turns: Turns
    reference: Turns = ()


class Judgment(NamedTuple):
    """The score of one turn, None where there is none, and what the judge said."""

    question_id: int
    model: str
    turn: int
    score: float | None
    text: str
    judge: str


class Game(NamedTuple):
    """Two models on one question, in both orders.

    Attributes:
        winners: Of either order: `model_1`, `model_2`, `tie`, or None for an error.
    """

    question_id: int
    model_1: str
    model_2: str
    turn: int
    winners: tuple[str | None, str | None]
    judge: str

    @property
    def score(self) -> float | None:
        """Of model_1: 1 or 0 where one model won twice, None for an error, else 1/2; `show_result` counts the same."""
        first, second = self.winners
        mixed = first != second or first == "tie"
        return None if None in self.winners else TIE if mixed else float(first == "model_1")


class Judged(NamedTuple):
    """A model on MT-Bench.

    Attributes:
        judgments: One a turn, in the order of the questions.
        categories: The mean score of each category, from 1 to 10, its interval clustered by question; only those with a
            score.
        turns: The same for each turn.
        overall: The same for all; None when nothing was scored.
        counts: Of each turn, as `Judge.score` counts; questions without an answer.
    """

    judgments: list[Judgment]
    categories: dict[str, Estimate]
    turns: dict[int, Estimate]
    overall: Estimate | None
    counts: dict[str, Any]


class Output(NamedTuple):
    """One model's answer to one instruction, as AlpacaEval keeps it."""

    instruction: str
    output: str
    generator: str
    dataset: str = ""


Outputs = Sequence[Output]


class Annotation(NamedTuple):
    """A preference between a reference (1) and a model (2): from 1 to 2, None where there is none."""

    instruction: str
    output_1: str
    generator_1: str
    output_2: str
    generator_2: str
    annotator: str
    preference: float | None
    raw_completion: str = ""
    dataset: str = ""


class Preferences(NamedTuple):
    """A model against a reference.

    Attributes:
        annotations: One an instruction that both answered.
        comparison: Of the model (`one`) with the reference; `win_rate` and `position_bias` take it.
        counts: outputs, references, and those without a partner.
    """

    annotations: list[Annotation]
    comparison: Comparison
    counts: dict[str, int]


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a `question.jsonl`.

    Raises:
        BadRequest: for a file that cannot be read, a record without id, category and turns, or an id that comes twice.
    """
    rows = _lines(Path(path), {"question_id": ID, "category": TEXT, "turns": TURNS}, {"reference": REFERENCE})
    _once(path, rows)
    return [Question(r["question_id"], r["category"], tuple(r["turns"]), tuple(r.get("reference") or ())) for r in rows]


def read_answers(path: str | Path) -> dict[int, Turns]:
    """A model's answers, or a reference's, by question: the turns of the first choice.

    Raises:
        BadRequest: for a file that cannot be read, a record without id and choices, or an id that comes twice.
    """
    rows = _lines(Path(path), {"question_id": ID, "choices": CHOICES})
    _once(path, rows)
    return {row["question_id"]: tuple(row["choices"][0]["turns"]) for row in rows}


def answered(questions: Sequence[Question], answer: Callable[[list[Example]], list[str]]) -> dict[int, Turns]:
    """A model's turns by question; each turn is asked as one text, after the conversation so far."""
    answers: dict[int, Turns] = {question.id: () for question in questions}
    for turn in range(max(len(question.turns) for question in questions)):
        some = [question for question in questions if len(question.turns) > turn]
        for question, text in zip(some, answer([_asked(q, answers[q.id]) for q in some]), strict=True):
            answers[question.id] += (text,)
    return answers


class Sat(NamedTuple):
    """What became of a model on MT-Bench, one entry per scored turn: points, question by place, and its category.

    `questions` is how many there are, `unscored` how many turns have no rating.
    """

    points: NDArray[np.int64]
    question: NDArray[np.int64]
    category: NDArray[np.str_]
    questions: int
    unscored: int


def sit(
    judge: Judge, questions_file: str, references_file: str | None, answer: Callable[[list[Example]], list[str]],
    name: str, judge_name: str, folder: Path,
) -> Sat:  # fmt: skip
    """A model sits MT-Bench; answers, judgments and first outputs are left in a folder, in the benchmarks' forms."""
    questions = read_questions(questions_file)
    references = read_answers(references_file) if references_file else {}
    answers = answered(questions, answer)
    judged = score_mt_bench(judge, questions, name, answers, references, judge_name)
    write_answers(folder / "mt_bench_answers.jsonl", name, answers)
    write_judgments(folder / "mt_bench_judgments.jsonl", judged.judgments)
    firsts = [Output(one.turns[0], answers[one.id][0], name, "mt_bench") for one in questions]
    write_outputs(folder / "alpaca_eval_outputs.json", firsts)
    place = {one.id: number for number, one in enumerate(questions)}
    scored = [(round(one.score), place[one.question_id]) for one in judged.judgments if one.score is not None]
    points, question = np.array(scored, np.int64).reshape(-1, 2).T
    category = np.array([one.category for one in questions])[question]
    return Sat(points, question, category, len(questions), len(judged.judgments) - len(scored))


def _asked(question: Question, before: Sequence[str]) -> Example:
    said = [part for pair in zip(question.turns, before, strict=False) for part in pair]
    return Example("\n\n".join([*said, question.turns[len(before)]]), "", "", "mt_bench", str(question.id))


def write_answers(path: str | Path, model: str, answers: Texts, tstamp: float = 0.0) -> None:
    """A model's answers in FastChat's format; `answer_id` is a digest of the answer."""
    rows = []
    for question, turns in answers.items():
        digest = blake2b(json.dumps([model, question, list(turns)]).encode(), digest_size=11).hexdigest()
        row = {"question_id": question, "answer_id": digest, "model_id": model}
        rows.append(row | {"choices": [{"index": 0, "turns": list(turns)}], "tstamp": tstamp})
    _write(Path(path), map(_line, rows))


def score_mt_bench(
    judge: Judge, questions: Sequence[Question], model: str, answers: Texts,
    references: Texts | None = None, judge_name: str = "judge",
) -> Judged:  # fmt: skip
    """Every turn of a model's answers, scored from 1 to 10.

    Args:
        judge: Who scores.
        questions: The benchmark's.
        model: The name its judgments carry.
        answers: The turns by question; a question without any is counted and not judged.
        references: Reference answers by question, such as GPT-4's for mathematics, reasoning and coding; a question
            without one falls back on its own `reference`.
        judge_name: The name that the judgments carry of their judge.

    Raises:
        BadRequest: when no question has an answer, or one has fewer turns than its question.
    """
    asked = [question for question in questions if question.id in answers]
    if not asked:
        raise BadRequest(f"'{model}' answers none of the {len(questions)} questions")
    for question in asked:
        if (given := len(answers[question.id])) != len(question.turns):
            raise BadRequest(f"question {question.id} has {len(question.turns)} turns, and '{model}' answers {given}")
    # The turns after one without a reference have none.
    beside = {q.id: tuple(takewhile(bool, (references or {}).get(q.id, q.reference))) for q in asked}
    judgments, counts = [], {}
    for turn in range(1, max(len(question.turns) for question in asked) + 1):
        some = [question for question in asked if len(question.turns) >= turn]
        scores = _score_turn(judge, some, answers, beside, turn)
        counts[f"turn {turn}"] = scores.counts
        rows = zip(some, scores.values, scores.texts, strict=True)
        judgments += [Judgment(q.id, model, turn, value, text or "", judge_name) for q, value, text in rows]
    place = {question.id: i for i, question in enumerate(asked)}
    judgments.sort(key=lambda j: (place[j.question_id], j.turn))
    category = {question.id: question.category for question in asked}
    keys = ([category[j.question_id] for j in judgments], [j.turn for j in judgments], ["all"] * len(judgments))
    categories, turns, overall = (mean_scores(judgments, by) for by in keys)
    unanswered = {"unanswered": len(questions) - len(asked)}
    return Judged(judgments, categories, turns, overall.get("all"), {**counts, **unanswered})


def mean_scores(judgments: Sequence[Judgment], by: Sequence[Any]) -> dict[Any, Estimate]:
    """The mean score, from 1 to 10, of each value of `by` [judgments]; intervals clustered by question."""
    if len(judgments) != len(by):
        raise BadRequest(f"{len(judgments)} judgments and {len(by)} keys: as many of each")
    marks: dict[Any, list[tuple[float, int]]] = {}
    for judgment, key in zip(judgments, by, strict=True):
        if judgment.score is not None:
            marks.setdefault(key, []).append(((judgment.score - 1) / 9, judgment.question_id))
    shares = {key: clustered(*zip(*rows, strict=True)) for key, rows in marks.items()}
    points = {key: [1 + 9 * value for value in share[:3]] for key, share in shares.items()}
    return {key: shares[key]._replace(mean=mean, lo=lo, hi=hi) for key, (mean, lo, hi) in points.items()}


def write_judgments(path: str | Path, judgments: Sequence[Judgment], tstamp: float = 0.0) -> None:
    """Judgments of single answers in FastChat's format (`<judge>_single.jsonl`)."""
    rows = [
        {"question_id": j.question_id, "model": j.model, "judge": [j.judge, PROMPTS[min(j.turn, 2) - 1]]}
        | {"user_prompt": "", "judgment": j.text, "score": NO_SCORE if j.score is None else j.score}
        | {"turn": j.turn, "tstamp": tstamp}
        for j in judgments
    ]
    _write(Path(path), map(_line, rows))


def read_judgments(path: str | Path) -> list[Judgment]:
    """Judgments of single answers, ours or FastChat's.

    Raises:
        BadRequest: for a file that cannot be read, or a record of another kind.
    """
    needed = {"question_id": ID, "model": TEXT, "judge": JUDGE, "judgment": TEXT, "score": SCORE, "turn": TURN}
    rows = _lines(Path(path), needed)
    scores = [None if (score := _number(row["score"])) == NO_SCORE else score for row in rows]
    rated = zip(rows, scores, strict=True)
    return [Judgment(r["question_id"], r["model"], r["turn"], score, r["judgment"], _judge(r)) for r, score in rated]


def read_games(path: str | Path) -> list[Game]:
    """Judgments of pairs in both orders, FastChat's `<judge>_pair.jsonl`.

    Raises:
        BadRequest: for a file that cannot be read, or a record of another kind.
    """
    needed = {"question_id": ID, "model_1": TEXT, "model_2": TEXT, "g1_winner": WINNER, "g2_winner": WINNER}
    rows = _lines(Path(path), needed | {"judge": JUDGE}, {"turn": TURN})
    games = []
    for row in rows:
        first, second = (None if row[name] == "error" else row[name] for name in ("g1_winner", "g2_winner"))
        models = row["model_1"], row["model_2"], row.get("turn", 1)
        games.append(Game(row["question_id"], *models, (first, second), _judge(row)))
    return games


def read_outputs(path: str | Path) -> list[Output]:
    """Outputs of a model, a JSON list as `alpaca_eval --model_outputs` takes it.

    Raises:
        BadRequest: for a file that cannot be read, or a record without instruction, output and generator.
    """
    rows = _list(Path(path), {"instruction": TEXT, "output": TEXT, "generator": TEXT}, {"dataset": TEXT_OR_NULL})
    return [Output(r["instruction"], r["output"], r["generator"], r.get("dataset") or "") for r in rows]


def write_outputs(path: str | Path, outputs: Outputs) -> None:
    """Outputs of a model for `alpaca_eval --model_outputs`."""
    rows = [{key: value for key, value in output._asdict().items() if value or key != "dataset"} for output in outputs]
    _write(Path(path), [json.dumps(rows, ensure_ascii=False, indent=1) + "\n"])


def compare_outputs(judge: Judge, outputs: Outputs, references: Outputs, annotator: str = "judge") -> Preferences:
    """A model's outputs against a reference's, in both orders; matched by instruction, copies in their order.

    Raises:
        BadRequest: when they have no instruction in common.
    """
    others: dict[str, deque[Output]] = defaultdict(deque)
    for reference in references:
        others[reference.instruction].append(reference)
    pairs = [(output, others[output.instruction].popleft()) for output in outputs if others[output.instruction]]
    if not pairs:
        raise BadRequest(f"{len(outputs)} outputs and {len(references)} references have no instruction in common")
    comparison = judge.compare([Contest(ours.instruction, ours.output, theirs.output) for ours, theirs in pairs])
    annotations = [
        Annotation(
            instruction=ours.instruction, output_1=theirs.output, generator_1=theirs.generator, output_2=ours.output,
            generator_2=ours.generator, annotator=annotator, preference=None if score is None else 1 + score,
            raw_completion="\n\n".join(text or "" for text in texts), dataset=ours.dataset,
        )
        for (ours, theirs), score, texts in zip(pairs, comparison.scores, comparison.texts, strict=True)
    ]  # fmt: skip
    counts = Counter(outputs=len(outputs), references=len(references), compared=len(pairs))
    counts |= {"outputs_alone": len(outputs) - len(pairs), "references_alone": len(references) - len(pairs)}
    return Preferences(annotations, comparison, dict(counts))


def write_annotations(path: str | Path, annotations: Sequence[Annotation]) -> None:
    """Annotations as AlpacaEval writes them."""
    rows = [annotation._asdict() for annotation in annotations]
    _write(Path(path), [json.dumps(rows, ensure_ascii=False, indent=1) + "\n"])


def read_annotations(path: str | Path) -> list[Annotation]:
    """Annotations, ours or AlpacaEval's; a preference of 0, its older mark for a tie, is read as 1.5.

    Raises:
        BadRequest: for a file that cannot be read, or a record without the two outputs and a preference.
    """
    texts = ("instruction", "output_1", "generator_1", "output_2", "generator_2", "annotator")
    needed = dict.fromkeys(texts, TEXT) | {"preference": PREFERENCE}
    rows = _list(Path(path), needed, {"dataset": TEXT_OR_NULL})
    scores = [1 + TIE if (score := _number(row["preference"])) == 0 else score for row in rows]
    raw = [str(row.get("raw_completion", row.get("preference_raw_completion")) or "") for row in rows]
    return [
        Annotation(**{name: row[name] for name in texts}, preference=score, raw_completion=text, dataset=dataset or "")
        for row, score, text, dataset in zip(rows, scores, raw, (row.get("dataset") for row in rows), strict=True)
    ]


def _score_turn(judge: Judge, questions: Sequence[Question], answers: Texts, beside: Texts, turn: int) -> Scores:
    if turn == 1:
        pairs = [Pair(question.turns[0], answers[question.id][0]) for question in questions]
        return judge.score(pairs, [next(iter(beside[question.id]), None) for question in questions])
    answers_to = [answers[question.id][:turn] for question in questions]
    beside_them = [beside[question.id][:turn] for question in questions]
    return judge.score_turns([question.turns[:turn] for question in questions], answers_to, beside_them)


def _judge(row: Mapping[str, Any]) -> str:
    """FastChat names a judge and its prompt; others name the judge."""
    return str(row["judge"] if isinstance(row["judge"], str) else row["judge"][0])


def _number(value: object) -> float | None:
    """A number, also one written as text; None for null and for NaN, as pandas writes a missing one."""
    number = float(value) if isinstance(value, int | float | str) else math.nan
    return None if math.isnan(number) else number


def _numeric(value: object, low: float, high: float, mark: float) -> bool:
    """Is it a number in a range, a mark for none, or missing?"""
    if isinstance(value, bool) or not isinstance(value, int | float | str | None):
        return False
    try:
        number = _number(value)
    except (ValueError, OverflowError):
        return False
    return number in (None, mark) or (number is not None and low <= number <= high)


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _answered(choices: list[Any]) -> bool:
    return bool(choices) and isinstance(choices[0], dict) and _texts(choices[0].get("turns"))


class Kind(NamedTuple):
    """What a field may hold: in words, and as a test."""

    words: str
    holds: Callable[[Any], bool]


ID = Kind("a whole number or a text", lambda value: type(value) in (int, str))
TURN = Kind("a whole number from 1 up", lambda value: type(value) is int and value >= 1)
TEXT = Kind("a text", lambda value: isinstance(value, str))
TEXT_OR_NULL = Kind("a text or null", lambda value: value is None or isinstance(value, str))
TURNS = Kind("a list of texts, one a turn", _texts)
REFERENCE = Kind("a list of texts, or null", lambda value: value is None or value == [] or _texts(value))
CHOICES = Kind("a list of choices with their turns", lambda value: isinstance(value, list) and _answered(value))
JUDGE = Kind("the judge's name, or a list that begins with it", lambda value: isinstance(value, str) or _texts(value))
WINNER = Kind("'model_1', 'model_2', 'tie', 'error' or null", lambda value: value in WINNERS)
SCORE = Kind(f"a number from 1 to 10, or {NO_SCORE} or null for none", lambda value: _numeric(value, 1, 10, NO_SCORE))
PREFERENCE = Kind("a number from 1 to 2, 0 for a tie, or null for none", lambda value: _numeric(value, 1, 2, 0))
Kinds = Mapping[str, Kind]


def _lines(path: Path, needed: Kinds, optional: Kinds | None = None) -> list[dict[str, Any]]:
    lines = enumerate(_text(path).split("\n"), 1)  # a text may hold what `splitlines` takes for an end
    rows = [_parsed(line, f"{path}: line {number}") for number, line in lines if line.strip()]
    return _checked(path, rows, needed, optional)


def _list(path: Path, needed: Kinds, optional: Kinds | None = None) -> list[dict[str, Any]]:
    rows = _parsed(_text(path), str(path))
    if not isinstance(rows, list):
        raise BadRequest(f"{path} is no JSON list of records")
    return _checked(path, rows, needed, optional)


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"{place} is no JSON") from None


def _checked(path: Path, rows: list[Any], needed: Kinds, optional: Kinds | None) -> list[dict[str, Any]]:
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or (absent := [name for name in needed if name not in row]):
            what = f"has no '{absent[0]}'" if isinstance(row, dict) else "is no object"
            raise BadRequest(f"{path}: record {number} {what}; it needs {', '.join(needed)}")
        for name, kind in {**needed, **(optional or {})}.items():
            if name in row and not kind.holds(row[name]):
                shown = json.dumps(row[name], ensure_ascii=False)[:100]
                raise BadRequest(f"{path}: record {number} has {shown} as its '{name}': it must be {kind.words}")
    return rows


def _once(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    places: dict[Any, int] = {}
    for number, row in enumerate(rows, 1):
        if (first := places.setdefault(row["question_id"], number)) != number:
            raise BadRequest(f"{path}: records {first} and {number} are of one question, {row['question_id']}")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _write(path: Path, parts: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    with half.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(parts)
    half.replace(path)
