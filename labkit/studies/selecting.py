"""A selection as people ask for it: a file or corpus, a budget, a method, and what is chosen as a file.

The model that scores is asked as it is: it learns nothing of the pool, so that nothing has to be cross-fitted. Of data
without oracles two things are stand-ins: the judge of `mfd` is chrF with the record's own answer, and quality is the
number of different words of an answer.
"""

import json
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from labkit.design import selection
from labkit.design.diversity import Floats
from labkit.design.selection import TRAINED, Indices
from labkit.errors import BadRequest
from labkit.instructions import Example, read
from labkit.lab import write_text
from labkit.learn import appraisal, embedders, finetuning
from labkit.learn.learner import Learner, TunedLearner, question

NEW_TOKENS = 128  # of an answer that the model writes itself
RANK = 8  # of the adapter whose gradients are compared


class Selected(NamedTuple):
    """What was chosen of a pool, in the order of choice, and sentences on how."""

    pool: list[Example]
    chosen: list[Example]
    notes: list[str]


def select(data: str | Path, budget: int, method: str, *, against: str | Path | None = None,
           embedder: str | None = None, model: str = "smollm2", fields: Mapping[str, str | int] | None = None,
           skip_bad: bool = False, seed: int = 0) -> Selected:  # fmt: skip
    """Choose `budget` records of a corpus or file; `against` holds records of the target.

    Raises:
        BadRequest: as `corpora.read` and `design.selection.check`; for records without an answer where a method scores
            answers; for an embedder or a model that is not there.
    """
    selection.check(method, 1, selection.FEWEST, 1)
    wanted = selection.METHODS[method]
    name = embedder or embedders.best()
    if wanted.needs == "embedder" or embedder:
        embedders.embed(["is it there?"], name)
    reader = read(data, fields=fields, on_bad="skip")
    pool = list(reader)
    if wanted.needs == "model" and reader.bad and not skip_bad:
        (reason, n), *_ = reader.bad.most_common()
        raise BadRequest(f"'{method}' scores every record of {data}, and {n} cannot be scored ({reason}): mend them, or"
                         " leave bad records out by --skip-bad")  # fmt: skip
    aims = read(against, on_bad="skip") if against and wanted.target else None
    target = list(aims or ())
    selection.check(method, budget, len(pool), len(target))
    notes = [f"{n} records left out: {reason}" for one in (reader, aims) if one for reason, n in one.bad.items()]
    notes += [f"the method '{method}' looks at no target"] * bool(against and not wanted.target)
    learner = learner_of(model) if wanted.needs == "model" else None
    if learner:
        pool, target = (_fitting(learner, part, what, notes) for part, what in ((pool, "pool"), (target, "target")))
        selection.check(method, budget, len(pool), len(target))
        notes.append(_cost(method, len(pool), len(target), model))
    notes += [f"vectors are by {name}"] * (wanted.needs == "embedder")
    chosen = places(method, learner, pool, target, budget, name, seed)
    return Selected(pool, [pool[place] for place in chosen.tolist()], notes)


def places(method: str, learner: Learner | None, pool: list[Example], target: list[Example], n: int, embedder: str,
           seed: int) -> Indices:  # fmt: skip
    """The `n` places of a pool that a method chooses; it asks the learner where it needs a model."""
    needs = selection.METHODS[method].needs
    if needs == "model":
        assert learner is not None
        return _by_model(method, learner, pool, target, n)
    vectors = embedders.embed([question(one) for one in pool], embedder) if needs == "embedder" else np.empty((0, 0))
    return _by_records(method, pool, vectors, n, seed)


def learner_of(model: str) -> TunedLearner:
    """A Hugging Face model as a learner that is only asked; raises as `qlora.load_tokenizer`."""
    given = {"quantisation": "none", "rank": RANK, "dropout": 0.0, "steps": 1}
    return TunedLearner(finetuning.settings(model, "default", **given), NEW_TOKENS, say=lambda _: None)


def _by_records(method: str, pool: Sequence[Example], vectors: Any, n: int, seed: int) -> Indices:
    if method == "random":
        return np.random.default_rng(seed).permutation(len(pool))[:n]
    if method == "longest":
        return selection.highest([len(one.output) for one in pool], n)
    if method == "facility":
        return selection.facility_location(vectors, n)
    return selection.good_and_new([float(len(set(one.output.lower().split()))) for one in pool], vectors, n)


def _by_model(method: str, learner: Learner, pool: list[Example], target: list[Example], n: int) -> Indices:
    ask = {
        "loss": lambda: appraisal.losses(learner, pool),
        "ifd": lambda: appraisal.ifd(learner, pool),
        "mfd": lambda: lacking(learner, pool),
        "gradient": lambda: appraisal.gradient_likeness(learner, pool, [target]),
        "representation": lambda: appraisal.state_likeness(learner, pool, target),
    }
    return selection.by_model(method, ask[method](), n)


def lacking(learner: Learner, pool: Sequence[Example]) -> Floats:
    """How far the learner's own answers are from the records', 0 to 1: 1 less chrF, [N]."""
    from sacrebleu.metrics import CHRF

    measure, answers = CHRF(), learner.answer(pool)
    near = [measure.sentence_score(own, [one.output]).score for own, one in zip(answers, pool, strict=True)]
    return 1 - np.array(near) / 100


def _fitting(learner: Learner, examples: list[Example], what: str, notes: list[str]) -> list[Example]:
    fits = [cost is not None for cost in learner.costs(examples)] if examples else []
    notes += [f"{fits.count(False)} records of the {what} are too long for the model and left out"] * (not all(fits))
    return list(compress(examples, fits))


def _cost(method: str, pool: int, target: int, model: str) -> str:
    passes = selection.cost(method, pool, target)
    return (f"selecting took {passes:,} forward passes of {model}: as much as training it on {passes // TRAINED:,} "
            "examples")  # fmt: skip


def table(found: Selected) -> list[dict[str, Any]]:
    """The pool and what was chosen, side by side."""
    rows = []
    for name, examples in (("pool", found.pool), ("chosen", found.chosen)):
        words = {part: np.median([len(getattr(one, part).split()) for one in examples])
                 for part in ("instruction", "output")}  # fmt: skip
        rows.append({"records": name, "number": len(examples),
                     "different instructions": len({one.instruction for one in examples}),
                     "words of an instruction (median)": words["instruction"],
                     "words of an answer (median)": words["output"]})  # fmt: skip
    return rows


def written(found: Selected, out: Path) -> Path:
    """What was chosen as JSON lines, which every command about data reads."""
    lines = ({part: getattr(one, part) for part in ("instruction", "input", "output")} for one in found.chosen)
    write_text(out, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    return out
