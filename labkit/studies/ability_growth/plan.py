"""The plan of the study of ability growth: the mixes of its second stage, and `labkit plan`.

A plan spends a budget by the growth curves of the main size's curated data (`design.plan`), which assumes that an
ability's score depends on its own examples alone. The named designs are the paper's; where they name an ability of
theirs, ours stands for it by analogy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from labkit.design import plan
from labkit.errors import BadRequest
from labkit.lab import write_json, write_text
from labkit.studies import language, learners
from labkit.studies.ability_growth.results import growths
from labkit.studies.growing import Records, open_ended

NAME = "ability_growth"
DESIGNS = ("planned", "baseline", "reconstruct", "maximum")  # and mix-N
BEYOND = 4  # how far beyond the last volume `labkit plan` may go, as a factor: what the fits speak of


class Design(NamedTuple):
    """A mix of the second stage: {ability: {source: examples}}, and what is predicted of it (None: nothing)."""

    counts: dict[str, dict[str, int]]
    predicted: dict[str, Any] | None


def designs(params: Any, curves: Records) -> dict[str, Design]:
    """The mixes of `params.mixes`: planned from growth curves, or named; and what is predicted of each.

    Where an ability has no growth curve (fewer than four volumes, or one seed), nothing is planned or predicted.

    Raises:
        BadRequest: for a design that needs more examples than there are.
    """
    fits, have, made = growths(curves, params.abilities), params.origin.available(params), dict[str, Design]()
    for mix in params.mixes:
        if mix != "planned":
            counts = named(params, mix, have)
            known = fits and all(set(sources) == {"curated"} for sources in counts.values())
            own = {name: sources["curated"] for name, sources in counts.items()}
            made[mix] = Design(counts, _rounded(plan.predict(fits, own).as_dict()) if fits and known else None)
        elif fits:
            most = {name: sources["curated"] for name, sources in have.items()}
            best = plan.allocate(fits, params.budget, available=most, least=params.least)
            predicted = best.planned.as_dict() | {"difference": best.difference.macro.as_dict()}
            made[mix] = Design({name: {"curated": n} for name, n in best.counts.items()}, _rounded(predicted))
    return made


def named(params: Any, mix: str, have: plan.Sources) -> dict[str, dict[str, int]]:
    """The counts of a named design; raises as `designs` does."""
    small = {name: min(n, have[name]["curated"]) for name, n in params.origin.SMALL.items() if name in have}
    if mix == "baseline":
        return plan.baseline(have, params.budget)
    if mix == "reconstruct":
        return plan.reconstruct(have, params.budget, small=small)
    return plan.mix_n(have, int(mix.removeprefix("mix-")) if mix != "maximum" else 0, small=small)


def _rounded(value: Any) -> Any:
    """Numbers to four digits, so that the last bit of a fit does not decide an address."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(one) for one in value]
    return round(value, 4) if isinstance(value, float) else value


class Planned(NamedTuple):
    """What `labkit plan` says: the table's rows, a sentence, and the plan."""

    rows: list[dict[str, Any]]
    sentence: str
    plan: plan.Plan


def plan_from(run: Path, budget: int, out: Path | None = None, paths: Mapping[str, str] | None = None) -> Planned:
    """An allocation of a budget by the growth curves of a finished run.

    Args:
        run: A run's folder, or its result.json.
        budget: Examples in all.
        out: A folder that is to get `plan.json`, `plan.yaml` (for `labkit mix`) and, for the lab's own abilities, the
            examples that it names, as `data/<ability>.jsonl`.
        paths: Each ability's file, for abilities that are not the lab's own.

    Raises:
        BadRequest: for a folder without a finished run of this study, a run without growth curves, a budget that
            cannot be met, a folder that holds a plan already, or abilities whose files are not named.
    """
    from labkit import studies

    if out is not None and (out / "plan.json").exists():
        raise BadRequest(f"{out} holds a plan already: name another folder")
    params, curves = _read(run, studies.find(NAME))
    fits, small, last = growths(curves, params.abilities), params.model == learners.SMALL, params.volumes[-1]
    if not fits:
        raise BadRequest(f"{run} has no growth curve of every ability: these need four volumes and two seeds")
    most = dict.fromkeys(fits, BEYOND * last if small else max(last, budget))
    made = plan.allocate(fits, budget, available=most, least=params.least)
    if out is not None:
        if paths is None and not small:
            raise BadRequest(
                "the abilities of a fine-tuned model have no files of their own: name one for each in paths"
            )
        _write(made, params, out, paths)
    rows = [
        {
            "ability": name,
            "examples": count,
            "equal parts": made.against[name],
            "predicted [95 %]": open_ended(made.planned.abilities[name].as_dict()),
            "tried up to": fits[name].tried,
            "note": "extrapolated" if name in made.extrapolated else "" if fits[name].responds else "does not respond",
        }
        for name, count in made.counts.items()
    ]
    macro, gain = (open_ended(one.macro.as_dict()) for one in (made.planned, made.difference))
    sentence = f"{budget:,} examples: a mean score of {macro} is predicted, {gain} more than of equal parts"
    return Planned(rows, sentence, made)


def _read(run: Path, study: Any) -> tuple[Any, Records]:
    """The parameters and growth curves of a finished run."""
    file = run / "result.json" if run.is_dir() else run
    if not file.is_file():
        raise BadRequest(f"{run} holds no result.json: `labkit run {NAME}` leaves one in its run's folder")
    try:
        result = json.loads(file.read_text("utf-8"))
        name = result["study"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest(f"{file} is no result of a study") from None
    if name != NAME:
        raise BadRequest(f"{file} is of the study '{name}': a plan needs growth curves, which {NAME} fits")
    growth = result["summary"].get("growth")
    if not isinstance(growth, dict):
        raise BadRequest(f"{file} is a result of an older labkit: run the study again to plan by it")
    return study.resolve(result["params"]), growth["fit"]["curves"]


def _write(made: plan.Plan, params: Any, out: Path, paths: Mapping[str, str] | None) -> None:
    where, reading, levels = dict(paths or {}), params.reading(), tuple(params.levels)
    (out / "data").mkdir(parents=True, exist_ok=True)
    for name, count in made.counts.items() if paths is None else ():
        where[name] = f"data/{name}.jsonl"
        tasks = language.tasks(name, count, "train", levels, params.fresh_seeds[0], reading)
        lines = ({key: getattr(task.example, key) for key in ("instruction", "input", "output")} for task in tasks)
        write_text(out / where[name], "".join(json.dumps(line) + "\n" for line in lines))
    write_text(out / "plan.yaml", yaml.safe_dump(made.to_spec(where), sort_keys=False))
    write_json(out / "plan.json", made.as_dict())
