"""Code mixing: how much general instruction data does a code model want?

The training set has one size, in examples; a share of it is general instructions, each in the place of one that asks
for code. All arms of a seed take equally many optimiser steps, share the beginning of their code and of their general
data, and sit the same exams, so they are compared in pairs.

Small models (`model = "small"`) begin with the lab's base model, which has read plain text of the families, code
included (`base_steps = 0`: with nothing). In that text requests stand over answers as headings, as comments stand over
code (`base_answered`), and half of the general ones demand a word at the beginning or end of the answer. Code is small
Python functions; general is other families in equal parts, with such demands. Every exam of code asks for compositions
whose behaviour no training function has; what a model writes is run (pass@1). Three strata: `same`, in the wordings of
training; `reworded`, one part in a wording that code never had; `constrained`, with a demand that no code had, in the
base's text or later. The endpoint is the mean of the two shifted strata. If only `constrained` rises, that is said:
general data then cover what the exam demands, and nothing more. A model trained on each general family alone is its
gate: what is not learned so is listed and left out of averages. One base serves all seeds: intervals do not cover other
bases.

Fine-tuned models (`model`, a Hugging Face id or folder; `qlora` scale): code, general and chain-of-thought examples in
the paper's numbers, of three corpora or of files in their place, decontaminated against the exams; QLoRA; programs
written greedily for HumanEval and MBPP, by EvalPlus (`plus`) or in our own sandbox (`problems`). At `real` scale that
is SmolLM2 and files of the folder LABKIT_DATA; it solves next to nothing, so published solutions and answers are
*followed* (`held`): which share of their tokens would the model write next, after the right ones?

Source of the question: Zhang, Wang, Charton, arXiv 2410.04717, section 4, Tables 1 and 2: pass@1 of pre-trained 7B code
models, fine-tuned on OSS-Instruct with Alpaca and CoT-Collection mixed in.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, cast

from pydantic import Field

from labkit.grade import sandbox
from labkit.learn.embedded import is_converted
from labkit.studies import learners, read_exams
from labkit.studies.family_mix import GENERAL, FamilyMix, FamilyParams, failing, family_mixes, gates, passed, small_spec
from labkit.studies.mixes import CorpusMix, CorpusParams, corpus_mixes
from labkit.studies.params import MODEL_GROUP, about
from labkit.studies.study import Results, Study
from labkit.studies.sweet_spots import SweetSpots
from labkit.studies.views import Curve, Matrix, ranged, signed

if TYPE_CHECKING:
    import pandas as pd

STRATA = {
    "same": "pass@1, trained wordings",
    "reworded": "pass@1, held-out wordings",
    "constrained": "pass@1, with a constraint",
}
SHIFTED = {"shifted": ("reworded", "constrained")}  # the endpoint: what code training does not show
MAIN = {
    "shifted": "pass@1, wordings and constraints that training lacks",
    "humaneval": "HumanEval pass@1",
    "mbpp": "MBPP pass@1",
    "own": "pass@1 on own problems",
}  # the first that was sat is looked at
MORE = {
    "humaneval/plus": "HumanEval+ pass@1",
    "mbpp/plus": "MBPP+ pass@1",
    "general": "accuracy on unseen general instructions",
    "seen": "accuracy on training examples",
}
EXAMS = MAIN | STRATA | read_exams.EXAMS | MORE
POOLS: Any = SHIFTED | read_exams.POOLS
DECISIONS = {
    "supports": "There is a sweet spot, by the registered rule",
    "contradicts": "There is no sweet spot, by the registered rule",
    "cannot tell": "It cannot be told whether there is a sweet spot",
}
LEAST = 0.03  # the smallest gain that matters, in pass@1
FLOOR = 0.05  # a stratum that no arm gets this far in tells arms apart in one direction at most
Mix = Annotated[FamilyMix | CorpusMix, Field(discriminator="kind")]


class Params(FamilyParams, CorpusParams):
    """What a person may set; see `catalogue.yaml` for the values each scale gives."""

    groups: ClassVar = {
        "general": ("families", "general_levels", "constrained"),
        "task": ("levels", "passes", "n_test", "confirm_unsafe"),
        "small": (*MODEL_GROUP, "loss"),
        "base": ("base_steps", "base_batch", "base_tokens", "base_answered", "base_gate"),
        "tuned": ("mixes", "corpora", "tuning", "plus", "problems", "held", "written", "new_tokens"),
    }


class Cell(learners.MixStudent):
    """One model: everything its result depends on."""

    study: Literal["code_mixing"] = "code_mixing"
    version: Literal[3] = 3
    task: Mix


def points(params: Params) -> Sequence[Cell]:
    """A cell for each training set and seed, seeds outermost, after the gates of the first seed.

    Raises:
        BadRequest: for what is missing: bubblewrap, a corpus, a file, a model.
    """
    if params.model == learners.SMALL or params.plus or params.problems:
        sandbox.available(params.confirm_unsafe)
    dials: list[tuple[int, Mix]]
    spec: learners.Spec
    if params.model == learners.SMALL:
        spec = small_spec(params)
        dials = [*product(params.seeds[:1], gates(params)), *product(params.seeds, family_mixes(params))]
    else:
        given = params.model_dump(include={"corpora", "plus", "problems", "held", "written", "confirm_unsafe"})
        dials = list(product(params.seeds, corpus_mixes(given, params.mixes, params.model)))
        spec = learners.tuned(params.model, "code_mixing", params.tuning, params.new_tokens)
    return [Cell(seed=seed, steps=params.steps, spec=spec, task=mix, n_test=params.n_test) for seed, mix in dials]


def arms(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """What the training sets of the first seed hold, before anything is trained."""
    first = [cell for cell in cells if cell.seed == cells[0].seed]
    hidden = ("two_way", "sandbox", "same_questions", "manifest")
    return [{name: value for name, value in cell.lesson().about.items() if name not in hidden} for cell in first]


def two_way(rows: "pd.DataFrame") -> "pd.Series[bool]":
    """Mixes of two sources: those that lie on the dial."""
    return rows["two_way"].astype(bool)


KINDS = {f"{stratum}:level{level}": f"{stratum}, level {level}" for stratum in STRATA for level in (1, 2, 3)}
KINDS |= {"constrained/met": "constrained, the constraint alone"}
KINDS |= {f"general:{name}": name for name in GENERAL}
ARM: Any = {"dials": ("size", "general_share", "mix"), "label": lambda row: f"{row['mix']} of {row['size']}"}
SPOTS: Any = {"where": two_way, "pools": POOLS, "least": LEAST, "exam": "", "exam_label": "pass@1", "by": "size",
              "arm": "general_share", "arm_name": "general data, share", "arm_label": lambda s: f"{s:.4g}"}  # fmt: skip
VIEWS = {
    "mix": Curve(
        title="Scores by the share of general data in the training set", exams=EXAMS, where=two_way, pools=POOLS,
        x="general_share", x_label="General data (share of the training examples)", log=False,
        y_label="Problems solved, or tokens foreseen (share)", by="size", by_name="training set", beside={"mix": "mix"},
    ),
    "gains": SweetSpots(
        title="What general data gains over the smallest share, on the same problems", mains=MAIN, **SPOTS
    ),
    "followed": SweetSpots(title="The same gains in tokens foreseen of published solutions", mains=read_exams.EXAMS,
                           **SPOTS | {"least": read_exams.LEAST, "exam_label": "share of tokens foreseen"}),
    **{stratum: SweetSpots(title=f"The same gains: {words}", mains={stratum: words}, **SPOTS)
       for stratum, words in STRATA.items()},
    "kinds": Matrix(
        title="Unseen tasks by kind: code by stratum and difficulty, general instructions by family", exams=KINDS, **ARM
    ),
    "mixes": Matrix(title="Every training set", exams=EXAMS, pools=POOLS, **ARM),
}  # fmt: skip


def drawn(rows: "pd.DataFrame", exam: str) -> Any:
    """For a notebook's controls: one exam along the share of general data."""
    view = replace(cast(Curve, VIEWS["mix"]), exams={exam: EXAMS[exam]})
    return view.chart(view.measure(rows))


def finding(results: Results) -> str:
    """What the study shows, with its intervals, the registered decision and what it rests on."""
    if not (sat := [view for view in ("gains", "followed") if view in results.views()]):
        return "No training set is a mix of two sources, so no share of general data can be told"
    main = next(exam for exam in MAIN | read_exams.EXAMS if len(results["mix"].lines(exam)))
    first, fit = results["mix"].lines(main)[0], results.fit(sat[0])
    of = f"with {first['general_share']:.0%} general data {EXAMS[main]} is {ranged(first)}"
    failed = failing(results.rows) if "gate" in results.rows else []
    parts = [DECISIONS[fit.numbers["decision"]], fit.sentence, of, coverage(results) if main == "shifted" else ""]
    parts += [f"{EXAMS[s]} is at its floor in every arm and could show no gain" for s in STRATA if floored(results, s)]
    parts += [f"not learned even alone: {', '.join(failed)}"] * bool(failed)
    return "; ".join(filter(None, parts))


def floored(results: Results, stratum: str) -> bool:
    """Does no arm solve a twentieth of a stratum that was sat?"""
    means = [line["mean"] for line in results["mix"].lines(stratum)]
    return bool(means) and max(means) < FLOOR


def coverage(results: Results) -> str:
    """What each shifted stratum gains at the share that is best on both, and whether only constraints are covered."""
    share = results.fit("gains").numbers.get("nearest")
    gains = [line for stratum in SHIFTED["shifted"] for line in results[stratum].lines(stratum, general_share=share)]
    if not gains:
        return ""
    parts = [f"{line['exam']} {signed(line['mean'], line['lo'], line['hi'])}" for line in gains]
    reworded, constrained = gains
    alone = "coverage of the exam's constraints, " * (constrained["lo"] > 0 >= reworded["lo"])
    return f"{alone}at {share:.4g} general data {' and '.join(parts)}"


def published_scores(results: Results) -> list[dict[str, Any]]:
    """The paper's Tables 1 and 2, in per cent."""
    names = {"model": "model", "mix": "OSS + Alpaca + CoT, thousands"}
    names |= {"humaneval": "HumanEval", "humaneval_plus": "HumanEval+", "mbpp": "MBPP", "mbpp_plus": "MBPP+"}
    values = [record for record in results.published if record["kind"] == "value"]
    mixed = [{**value, "mix": "{oss_k:g}+{alpaca_k:g}+{cot_k:g}".format(**value)} for value in values]
    return [{words: record[name] for name, words in names.items()} for record in mixed]


def notes(params: Params) -> list[str]:
    """What was decided for the person."""
    unsafe = params.confirm_unsafe and not sandbox.available(unsafe=True)
    pinned = params.model == learners.SMALL or Path(params.model).is_dir() or is_converted(params.model)
    pinned = pinned or "revision" in params.tuning
    contained = ["programs are run without bubblewrap: what they may touch is not contained"]
    loose = [f"'{params.model}' is not pinned: tuning = {{'revision': COMMIT}} pins it"]
    return contained * unsafe + loose * (not pinned)


STUDY = Study(
    **about("code_mixing"), Params=Params, points=points, dials={"size": "training set", "mix": "mix"},
    views=VIEWS, columns=passed, finding=finding, notes=notes, tables={"The paper's Tables 1 and 2": published_scores},
    measure_many=None,
)  # fmt: skip
