"""MT-Bench and AlpacaEval: questions read, answers judged, and both written so that the public tools can re-score them.

MT-Bench (Zheng et al. 2023, arXiv 2306.05685): 80 questions of two turns in eight categories. Files are FastChat's:
`question.jsonl`, answers and references as one record per question, judgments as one record per turn, where a score of
-1 stands for none; its `show_result` reads what is written here. AlpacaEval (Li et al. 2023; Dubois et al. 2024, arXiv
2404.04475): outputs are the JSON list that `alpaca_eval --model_outputs` takes, annotations the list it writes, with
the reference as `output_1` and a preference from 1 (reference) to 2 (model), 1.5 for a tie, null for none.

Guaranteed: what is written and read again is equal; a file is written whole and renamed; what has no score is None;
a score or preference of null or NaN is none, and a field of another kind is refused by its record.
Left open: the judge's prompts are labkit's, so scores are comparable with each other and not with a leaderboard; no
correction for length.
"""

import json
import math
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import AliasChoices, BeforeValidator, Field, StrictInt, StrictStr, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from labkit.design.durable import write_text
from labkit.errors import BadRequest
from labkit.instructions import Example
from labkit.teach.judge import Comparison, Contest, Judge

PROMPTS = ("labkit-single-v1", "labkit-single-v1-multi-turn")  # which texts a judgment answers, by turn
NO_SCORE = -1

Turns = tuple[str, ...]
Texts = Mapping[int | str, Sequence[str]]  # by question
_T = TypeVar("_T")


# What the fields of records may hold: the type decides, and `_words` say it to people.


def _words(text: str, **limits: Any) -> Any:
    return Field(description=text, **limits)


def _null_as(empty: Any) -> BeforeValidator:
    return BeforeValidator(lambda value: empty if value is None else value)


def _scale(low: float, high: float, marks: Mapping[float, float | None]) -> BeforeValidator:
    """A number of a scale, also one written as text; None for null and for NaN, as pandas writes a missing number.

    Numbers among the `marks` stand for others, or for none.
    """

    def read(value: Any) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float | str | None):
            raise ValueError("no number")
        number = float(value) if isinstance(value, str) else math.nan if value is None else value
        if number in marks or number != number:  # which NaN alone is not
            return marks.get(number)
        if not low <= number <= high:
            raise ValueError("not on the scale")
        return number

    return BeforeValidator(read)


# FastChat names a judge and its prompt, others name the judge alone.
_FIRST = BeforeValidator(lambda value: value[0] if isinstance(value, list) and value else value)
_EITHER_NAME = Field(validation_alias=AliasChoices("raw_completion", "preference_raw_completion"))

Id = Annotated[StrictInt | StrictStr, _words("a whole number or a text")]
Text = Annotated[StrictStr, _words("a text")]
TextOrNull = Annotated[StrictStr, _null_as(""), _words("a text or null")]
Said = Annotated[tuple[StrictStr, ...], _words("a list of texts, one per turn", min_length=1)]
Reference = Annotated[tuple[StrictStr, ...], _null_as(()), _words("a list of texts, or null")]
Turn = Annotated[StrictInt, _words("a whole number from 1 up", ge=1)]
Score = Annotated[float | None, _scale(1, 10, {NO_SCORE: None}), _words("a number from 1 to 10; -1 or null for none")]
# 0 is AlpacaEval's older mark for a tie.
Preference = Annotated[float | None, _scale(1, 2, {0: 1.5}), _words("a number from 1 to 2; 0 for a tie, null for none")]
JudgeName = Annotated[StrictStr, _FIRST, _words("the judge's name, or a list that begins with it")]
Raw = Annotated[str, BeforeValidator(lambda value: str(value or "")), _EITHER_NAME]


@dataclass(frozen=True)
class Question:
    """A question of MT-Bench (or of Vicuna's, of one turn); `reference` is empty where there is none."""

    id: Annotated[Id, Field(alias="question_id")]
    category: Text
    turns: Said
    reference: Reference = ()


@dataclass(frozen=True)
class Choice:
    """One of a model's answers to a question."""

    turns: Said


@dataclass(frozen=True)
class Answer:
    """A model's answers to a question, or its reference."""

    question_id: Id
    choices: Annotated[list[Choice], _words("a list of choices with their turns", min_length=1)]


@dataclass(frozen=True)
class Judgment:
    """The score of one turn, None where there is none, and what the judge said."""

    question_id: Id
    model: Text
    turn: Turn
    score: Score
    text: Annotated[Text, Field(alias="judgment")]
    judge: JudgeName


@dataclass(frozen=True)
class Output:
    """One model's answer to one instruction, as AlpacaEval keeps it."""

    instruction: Text
    output: Text
    generator: Text
    dataset: TextOrNull = ""


@dataclass(frozen=True)
class Annotation:
    """A preference between a reference (1) and a model (2): from 1 to 2, None where there is none."""

    instruction: Text
    output_1: Text
    generator_1: Text
    output_2: Text
    generator_2: Text
    annotator: Text
    preference: Preference
    raw_completion: Raw = ""
    dataset: TextOrNull = ""


class Preferences(NamedTuple):
    """A model against a reference.

    Attributes:
        annotations: One per instruction that both answered.
        comparison: Of the model (`one`) with the reference; `win_rate` and `position_bias` take it.
        counts: outputs, references, and those without a partner.
    """

    annotations: list[Annotation]
    comparison: Comparison
    counts: dict[str, int]


class Sat(NamedTuple):
    """What became of a model on MT-Bench, one entry per scored turn: points, question by place, and its category.

    `questions` is how many there are, `unscored` how many turns have no rating.
    """

    points: NDArray[np.int64]
    question: NDArray[np.int64]
    category: NDArray[np.str_]
    questions: int
    unscored: int


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a `question.jsonl`.

    Raises:
        BadRequest: for a file that cannot be read, a record without id, category and turns, or an id that comes twice.
    """
    questions = _lines(path, Question)
    _once(path, [question.id for question in questions])
    return questions


def read_answers(path: str | Path) -> dict[int | str, Turns]:
    """A model's answers, or a reference's, by question: the turns of the first choice.

    Raises:
        BadRequest: for a file that cannot be read, a record without id and choices, or an id that comes twice.
    """
    answers = _lines(path, Answer)
    _once(path, [answer.question_id for answer in answers])
    return {answer.question_id: answer.choices[0].turns for answer in answers}


def read_judgments(path: str | Path) -> list[Judgment]:
    """Judgments of single answers, ours or FastChat's.

    Raises:
        BadRequest: for a file that cannot be read, or a record of another kind.
    """
    return _lines(path, Judgment)


def read_outputs(path: str | Path) -> list[Output]:
    """Outputs of a model, a JSON list as `alpaca_eval --model_outputs` takes it.

    Raises:
        BadRequest: for a file that cannot be read, or a record without instruction, output and generator.
    """
    return _list(path, Output)


def read_annotations(path: str | Path) -> list[Annotation]:
    """Annotations, ours or AlpacaEval's; a preference of 0, its older mark for a tie, is read as 1.5.

    Raises:
        BadRequest: for a file that cannot be read, or a record without the two outputs and a preference.
    """
    return _list(path, Annotation)


def write_answers(path: str | Path, model: str, answers: Texts, tstamp: float = 0.0) -> None:
    """A model's answers in FastChat's format; `answer_id` is a digest of the answer."""
    rows = []
    for question, turns in answers.items():
        digest = blake2b(json.dumps([model, question, list(turns)]).encode(), digest_size=11).hexdigest()
        row = {"question_id": question, "answer_id": digest, "model_id": model}
        rows.append(row | {"choices": [{"index": 0, "turns": list(turns)}], "tstamp": tstamp})
    _write_lines(path, rows)


def write_judgments(path: str | Path, judgments: Sequence[Judgment], tstamp: float = 0.0) -> None:
    """Judgments of single answers in FastChat's format (`<judge>_single.jsonl`)."""
    rows = [
        {"question_id": j.question_id, "model": j.model, "judge": [j.judge, PROMPTS[min(j.turn, 2) - 1]]}
        | {"user_prompt": "", "judgment": j.text, "score": NO_SCORE if j.score is None else j.score}
        | {"turn": j.turn, "tstamp": tstamp}
        for j in judgments
    ]
    _write_lines(path, rows)


def write_outputs(path: str | Path, outputs: Sequence[Output]) -> None:
    """Outputs of a model for `alpaca_eval --model_outputs`."""
    rows = [asdict(output) for output in outputs]
    _write_list(path, [{key: value for key, value in row.items() if value or key != "dataset"} for row in rows])


def write_annotations(path: str | Path, annotations: Sequence[Annotation]) -> None:
    """Annotations as AlpacaEval writes them."""
    _write_list(path, [asdict(annotation) for annotation in annotations])


def sit(
    judge: Judge, questions_file: str, references_file: str | None, answer: Callable[[list[Example]], list[str]],
    name: str, judge_name: str, folder: Path,
) -> Sat:  # fmt: skip
    """A model sits MT-Bench; answers, judgments and first outputs are left in a folder, in the benchmarks' forms."""
    questions = read_questions(questions_file)
    references = read_answers(references_file) if references_file else {}
    answers = _answers(questions, answer)
    judgments = score_mt_bench(judge, questions, name, answers, references, judge_name)
    write_answers(folder / "mt_bench_answers.jsonl", name, answers)
    write_judgments(folder / "mt_bench_judgments.jsonl", judgments)
    firsts = [Output(one.turns[0], answers[one.id][0], name, "mt_bench") for one in questions]
    write_outputs(folder / "mt_bench_first_turns.json", firsts)
    place = {one.id: number for number, one in enumerate(questions)}
    scored = [(round(one.score), place[one.question_id]) for one in judgments if one.score is not None]
    points, question = np.array(scored, np.int64).reshape(-1, 2).T
    category = np.array([one.category for one in questions])[question]
    return Sat(points, question, category, len(questions), len(judgments) - len(scored))


def _answers(questions: Sequence[Question], answer: Callable[[list[Example]], list[str]]) -> dict[int | str, Turns]:
    """A model's turns by question; each turn is asked as one text, after the conversation so far."""
    answers: dict[int | str, Turns] = {question.id: () for question in questions}
    for turn in range(max(len(question.turns) for question in questions)):
        group = [question for question in questions if len(question.turns) > turn]
        examples = []
        for question in group:
            said = [part for pair in zip(question.turns, answers[question.id], strict=False) for part in pair]
            text = "\n\n".join([*said, question.turns[turn]])
            examples.append(Example(text, "", "", "mt_bench", str(question.id)))
        for question, reply in zip(group, answer(examples), strict=True):
            answers[question.id] += (reply,)
    return answers


def score_mt_bench(
    judge: Judge, questions: Sequence[Question], model: str, answers: Texts,
    references: Texts | None = None, judge_name: str = "judge",
) -> list[Judgment]:  # fmt: skip
    """Every turn of a model's answers, scored from 1 to 10, in the order of the questions.

    Args:
        judge: Who scores.
        questions: The benchmark's.
        model: The name its judgments carry.
        answers: The turns by question; a question without any is not judged.
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
    sittings = [(question, turn) for question in asked for turn in range(1, len(question.turns) + 1)]
    scores = judge.score_turns(
        [question.turns[:turn] for question, turn in sittings],
        [answers[question.id][:turn] for question, turn in sittings],
        [beside[question.id][:turn] for question, turn in sittings],
    )
    scored = zip(sittings, scores.values, scores.texts, strict=True)
    return [Judgment(q.id, model, turn, value, text or "", judge_name) for (q, turn), value, text in scored]


def compare_outputs(
    judge: Judge, outputs: Sequence[Output], references: Sequence[Output], annotator: str = "judge"
) -> Preferences:
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
    annotations = []
    for (ours, theirs), score, texts in zip(pairs, comparison.scores, comparison.texts, strict=True):
        sides = (theirs.output, theirs.generator, ours.output, ours.generator)
        preference = None if score is None else 1 + score
        said = "\n\n".join(text or "" for text in texts)
        annotations.append(Annotation(ours.instruction, *sides, annotator, preference, said, ours.dataset))
    counts = {"outputs": len(outputs), "references": len(references), "compared": len(pairs)}
    counts |= {"outputs_alone": len(outputs) - len(pairs), "references_alone": len(references) - len(pairs)}
    return Preferences(annotations, comparison, counts)


def _lines(path: str | Path, kind: type[_T]) -> list[_T]:
    lines = enumerate(_text(path).split("\n"), 1)  # a text may hold what `splitlines` takes for an end
    return _records(path, kind, [_parsed(line, f"{path}: line {number}") for number, line in lines if line.strip()])


def _list(path: str | Path, kind: type[_T]) -> list[_T]:
    rows = _parsed(_text(path), str(path))
    if not isinstance(rows, list):
        raise BadRequest(f"{path} is no JSON list of records")
    return _records(path, kind, rows)


def _text(path: str | Path) -> str:
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise OSError("it is no file that is there")
        return Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read: {error}") from None


def _parsed(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest(f"{place} is no JSON") from None


def _records(path: str | Path, kind: Any, rows: Sequence[Any]) -> list[Any]:
    adapter, records = TypeAdapter(kind), []
    for number, row in enumerate(rows, 1):
        try:
            records.append(adapter.validate_python(row))
        except ValidationError as error:
            where = error.errors()[0]["loc"]
            raise BadRequest(f"{path}: record {number} {_trouble(kind, row, where[0] if where else None)}") from None
    return records


def _trouble(kind: Any, row: Any, name: Any) -> str:
    """Why a row is no record: what it is, or which field is missing or of another kind."""
    fields = {field.alias or own: field for own, field in kind.__pydantic_fields__.items()}
    if isinstance(row, dict) and name in row:
        shown = json.dumps(row[name], ensure_ascii=False)[:100]
        return f"has {shown} as its '{name}': it must be {fields[name].description}"
    lacks = f"has no '{name}'" if isinstance(row, dict) else "is no object"
    return f"{lacks}; it needs {', '.join(own for own, field in fields.items() if field.is_required())}"


def _once(path: str | Path, ids: Sequence[int | str]) -> None:
    places: dict[int | str, int] = {}
    for number, question in enumerate(ids, 1):
        if (first := places.setdefault(question, number)) != number:
            raise BadRequest(f"{path}: records {first} and {number} are of one question, {question}")


def _write_lines(path: str | Path, rows: Iterable[Mapping[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def _write_list(path: str | Path, rows: list[dict[str, Any]]) -> None:
    _write(path, json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


def _write(path: str | Path, text: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(Path(path), text)
