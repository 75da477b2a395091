"""The plan of the study of ability growth: the mixes of its second stage, and `labkit plan`.

A plan spends a budget by the growth curves of the main size's curated data (`design.plan`), which assumes that an
ability's score depends on its own examples alone. The named designs are the paper's; where they name an ability of
theirs, ours stands for it by analogy.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from labkit.design import plan
from labkit.design.plan import Sources
from labkit.errors import BadRequest
from labkit.lab import write_json, write_text
from labkit.studies import growth_data as data
from labkit.studies import growth_results as results
from labkit.studies import tuned_growth
from labkit.studies.growth_results import ranged

if TYPE_CHECKING:
    import pandas as pd

    from labkit.studies.ability_growth import Params

NAME = "ability_growth"
DESIGNS = ("planned", "baseline", "reconstruct", "maximum")  # and mix-N
BEYOND = 4  # how far beyond the last volume `labkit plan` may go, as a factor: what the fits speak of
SMALL_SHARES = {  # the paper's early saturated abilities and our counterparts
    "classification": plan.SMALL["ethics"],
    "role": plan.SMALL["role_play"],
    "formatting": plan.SMALL["creative_writing"],
}


class Design(NamedTuple):
    """A mix of the second stage: {ability: {source: examples}}, and what is predicted of it (None: nothing)."""

    counts: dict[str, dict[str, int]]
    predicted: dict[str, Any] | None


def designs(params: "Params", frame: "pd.DataFrame") -> dict[str, Design]:
    """The mixes of `params.mixes`: planned from the growth curves of `frame`, or named; and what is predicted of each.

    Where an ability has no growth curve (fewer than four volumes, or one seed), nothing is planned or predicted.

    Raises:
        BadRequest: for a design that needs more examples than there are.
    """
    fits, found = results.growths(results.summarise(frame.assign(grading=params.grading))), dict[str, Design]()
    have = available(params)
    for mix in params.mixes:
        if mix != "planned":
            counts = named(params, mix, have)
            own = {name: sources["curated"] for name, sources in counts.items()}
            known = fits and all(set(sources) == {"curated"} for sources in counts.values())
            found[mix] = Design(counts, _rounded(plan.predict(fits, own).as_dict()) if fits and known else None)
        elif fits:
            most = {name: sources["curated"] for name, sources in have.items()}
            made = plan.allocate(fits, params.budget, available=most, least=params.least)
            predicted = made.planned.as_dict() | {"difference": made.difference.macro.as_dict()}
            found[mix] = Design({name: {"curated": n} for name, n in made.counts.items()}, _rounded(predicted))
    return found


def available(params: "Params") -> dict[str, dict[str, int]]:
    """Examples there are: of the families as many as the ladder tries, so that no plan goes beyond what was seen."""
    if params.model is not None:
        return tuned_growth.available(params, params.model)
    return {name: dict.fromkeys(data.SOURCES, params.volumes[-1]) for name in params.abilities}


def named(params: "Params", mix: str, have: Sources) -> dict[str, dict[str, int]]:
    """The counts of a named design; raises as `designs` does."""
    small = plan.SMALL if params.model else SMALL_SHARES
    small = {name: min(n, have[name]["curated"]) for name, n in small.items() if name in have}
    if mix == "baseline":
        return plan.baseline(have, params.budget)
    if mix == "reconstruct":
        return plan.reconstruct(have, params.budget, small=small)
    if mix == "maximum":
        return plan.maximum(have, small=small)
    return plan.mix_n(have, int(mix.removeprefix("mix-")), small=small)


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

    file = run / "result.json" if run.is_dir() else run
    if not file.is_file():
        raise BadRequest(f"{run} holds no result.json: `labkit run ability_growth` leaves one in its run's folder")
    try:
        result = json.loads(file.read_text("utf-8"))
        study = result["study"]
    except (ValueError, KeyError, TypeError):
        raise BadRequest(f"{file} is no result of a study") from None
    if study != NAME:
        raise BadRequest(f"{file} is of the study '{study}': a plan needs growth curves, which {NAME} fits")
    params: Params = studies.find(NAME).resolve(result["params"])
    fits = results.growths(result["summary"])
    if not fits:
        raise BadRequest(f"{file} has no growth curve of every ability: these need four volumes and two seeds")
    if params.model is None:
        have = dict.fromkeys(fits, BEYOND * params.volumes[-1])
    else:
        have = {name: max(params.volumes[-1], budget) for name in fits}
    made = plan.allocate(fits, budget, available=have, least=params.least)
    if out is not None:
        _write(made, params, out, paths)
    rows = [
        {
            "ability": name,
            "examples": count,
            "equal parts": made.against[name],
            "predicted [95 %]": ranged(made.planned.abilities[name].as_dict()),
            "tried up to": fits[name].tried,
            "note": "extrapolated" if name in made.extrapolated else "" if fits[name].responds else "does not respond",
        }
        for name, count in made.counts.items()
    ]
    macro, gain = (ranged(one.macro.as_dict()) for one in (made.planned, made.difference))
    sentence = f"{budget:,} examples: a mean score of {macro} is predicted, {gain} more than of equal parts"
    return Planned(rows, sentence, made)


def _write(made: plan.Plan, params: "Params", out: Path, paths: Mapping[str, str] | None) -> None:
    if (out / "plan.json").exists():
        raise BadRequest(f"{out} holds a plan already: name another folder")
    if paths is None and params.model is not None:
        raise BadRequest("the abilities of a fine-tuned model have no files of their own: name one for each in paths")
    where, reading, seed = dict(paths or {}), params.reading(), params.fresh_seeds[0]
    tasks = {
        name: data.training(name, count, tuple(params.levels), seed, reading)
        for name, count in made.counts.items()
        if paths is None
    }
    (out / "data").mkdir(parents=True, exist_ok=True)
    for name, some in tasks.items():
        where[name] = f"data/{name}.jsonl"
        lines = ({key: getattr(task.example, key) for key in ("instruction", "input", "output")} for task in some)
        write_text(out / where[name], "".join(json.dumps(line) + "\n" for line in lines))
    write_text(out / "plan.yaml", yaml.safe_dump(made.to_spec(where), sort_keys=False))
    write_json(out / "plan.json", made.as_dict())
