"""Views: from long rows to estimates with intervals, a fit, a table and a chart, at once and in one place.

A study says which exams it looks at along which dial; everything that a person sees follows from that. Intervals
resample seeds and, within a seed, instructions (`labkit.grade.seed_cluster_bootstrap` says what that assumes); paired
gains resample seeds and questions that all arms share (`labkit.grade.paired_difference`).
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labkit import grade
from labkit.errors import BadRequest
from labkit.grade.decision import ABOVE_ZERO, Evidence
from labkit.studies.rows import counts_of, records, scores_of

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Rows = "pd.DataFrame"
SETTINGS = "all settings but the seed"  # a column of the rows that views are given
Where = Callable[["pd.DataFrame"], "pd.Series[bool]"]
Records = list[dict[str, Any]]


class Fit(NamedTuple):
    """What was fitted to a view: a clause for people, and its numbers for `result.json`."""

    sentence: str
    numbers: dict[str, Any]


class Found(NamedTuple):
    """What a view shows: one line per estimate, one per model behind it, and the fit."""

    estimates: "pd.DataFrame"
    models: "pd.DataFrame"
    fit: Fit | None = None

    def line(self, exam: str, **dials: Any) -> dict[str, Any]:
        """The one estimate of an exam at these dials."""
        (line,) = self.lines(exam, **dials)
        return line

    def lines(self, exam: str, **dials: Any) -> Records:
        """The estimates of an exam at these dials, in order."""
        chosen = self.estimates[self.estimates["exam"] == exam]
        for dial, value in dials.items():
            chosen = chosen[chosen[dial] == value]
        return records(chosen)

    def as_dict(self) -> dict[str, Any]:
        """For `result.json`."""
        lines = self.estimates.astype(object).where(self.estimates.notna(), None).to_dict("records")
        return {"estimates": lines, "fit": self.fit.numbers if self.fit else None}


def interval(mean: float, lo: float, hi: float) -> str:
    """A mean and its interval for people."""
    return f"{mean:.3f} [{lo:.3f}, {hi:.3f}]"


def signed(mean: float, lo: float, hi: float) -> str:
    """A difference and its interval for people."""
    return f"{mean:+.3f} [{lo:+.3f}, {hi:+.3f}]"


def ranged(line: Mapping[str, Any]) -> str:
    """An estimate's mean and interval for people."""
    return interval(line["mean"], line["lo"], line["hi"])


@dataclass(frozen=True, kw_only=True)
class View(ABC):
    """See the module.

    Attributes:
        title: What the picture shows, as a heading.
        caption: What a reader should know of it, for report and notebook.
        where: Which long rows it is of; default all.
        drawn: Dials that every seed draws anew: a mean over seeds is one over their values, too.
        pools: Exams that are several exams taken together, by name: their questions in one.
    """

    title: str
    caption: str = ""
    where: Where | None = None
    drawn: Sequence[str] = ()
    pools: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @abstractmethod
    def measure(self, rows: "pd.DataFrame") -> Found:
        """Estimates, models and fit from long rows."""

    @abstractmethod
    def table(self, found: Found) -> Records:
        """What a person reads first; one dict of texts and numbers per line."""

    @abstractmethod
    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        """The picture; `published` are records of `show.published`, `title` the finding where there is one."""

    def select(self, rows: "pd.DataFrame", exams: Sequence[str]) -> "pd.DataFrame":
        """The long rows of these exams, the pooled ones among them; `exam` holds the name that the view gives."""
        import pandas as pd

        chosen = rows[self.where(rows)] if self.where else rows
        parts = [chosen[chosen["key"] == exam].assign(exam=exam) for exam in exams if exam not in self.pools]
        for exam in exams:
            if exam in self.pools:
                parts.append(_pooled(chosen[chosen["key"].isin(self.pools[exam])]).assign(exam=exam))
        return pd.concat([part for part in parts if len(part)] or parts)

    def estimate(self, group: "pd.DataFrame") -> dict[str, Any]:
        """The mean accuracy of some models that differ by seed, with its interval.

        Raises:
            BadRequest: for models that differ by more than their seeds.
        """
        if SETTINGS in group and len(mixed := [json.loads(text) for text in group[SETTINGS].unique()]) > 1:
            differ = [name for name in mixed[0] if any(one[name] != mixed[0][name] for one in mixed)]
            if names := ", ".join(name for name in differ if name not in self.drawn):
                raise BadRequest(
                    f"models of different {names} are no repetitions of each other: choose one setting of these"
                )
        counts, same = counts_of(group), same_questions(group)
        right = [np.asarray(one.right) for one in counts]
        if all(one.dtype.kind == "f" for one in right):  # scores of questions, not right answers
            tables = [np.stack([one, np.zeros(len(one))]) for one in right]
            mean, lo, hi = grade.paired_difference(tables, 0, 1, same_problems=same)
            over, lowest = "seeds and questions", min(float(table[0].mean()) for table in tables)
        else:
            found = grade.seed_cluster_bootstrap(counts, same_rules=same)
            mean, lo, hi, over = found.mean, found.lo, found.hi, found.over
            lowest = float(grade.intervals.accuracies(counts).min())
        return {"mean": mean, "lo": lo, "hi": hi, "over": over, "seeds": len(group), "lowest": lowest,
                "not_learned": int((~group["learned"].astype(bool)).sum())}  # fmt: skip


def same_questions(rows: "pd.DataFrame") -> bool:
    """Whether models of all seeds were asked the same questions, as `Lesson.about` may say of an exam."""
    return "same_questions" in rows and bool(rows["same_questions"].fillna(False).all())


def _pooled(rows: "pd.DataFrame") -> "pd.DataFrame":
    """One line per model: the questions of several exams as one."""
    joined = rows.groupby("address", sort=False).agg({"right": "sum", "asked": "sum"})  # lists are joined
    first = rows.drop_duplicates("address").set_index("address").drop(columns=["right", "asked"])
    return first.join(joined).reset_index()


def _groups(rows: "pd.DataFrame", names: Sequence[str], ordered: str | None) -> Iterator[tuple[dict[str, Any], Any]]:
    """Groups of rows in order of appearance, but for the dial `ordered`, which rises."""
    groups = [(dict(zip(names, key, strict=True)), group) for key, group in rows.groupby(list(names), sort=False)]
    if ordered is None:
        return iter(groups)
    others = [name for name in names if name != ordered]
    seen = {tuple(at[name] for name in others): place for place, (at, _) in reversed(list(enumerate(groups)))}
    return iter(sorted(groups, key=lambda one: (seen[tuple(one[0][n] for n in others)], one[0][ordered])))


@dataclass(frozen=True, kw_only=True)
class Curve(View):
    """Accuracy along a dial: one curve per exam, or per value of a second dial (then one panel per exam).

    Attributes:
        x: The dial of the x axis; `x_label` names it with its unit.
        exams: What is graded, and how a person reads it; the first is the main one.
        by: A second dial: one curve per value; `by_label` says how a person reads a value, `by_name` the dial.
        log: Whether the x axis is logarithmic.
        fit: From the places on x and the main exam's answers at each to what was fitted there.
        beside: Columns of the models that a table shows too, and how a person reads them.
        y_label: The y axis, with its unit.
        text: How a table writes an estimate.
    """

    x: str
    x_label: str
    exams: Mapping[str, str]
    by: str | None = None
    by_name: str = ""
    by_label: Callable[[Any], str] = str
    log: bool = True
    fit: Callable[[Sequence[float], list[list[grade.Counts]]], Fit] | None = None
    beside: Mapping[str, str] = field(default_factory=dict)
    y_label: str = "Accuracy (share of test examples)"

    def measure(self, rows: "pd.DataFrame") -> Found:
        selected = self.select(rows, list(self.exams))
        names = [*([self.by] if self.by else []), self.x, "exam"]
        lines = [at | self.estimate(group) | {column: _common(group[column]) for column in self.beside}
                 for at, group in _groups(selected, names, self.x)]  # fmt: skip
        return _found(lines, selected, names, self._fitted(selected))

    def _fitted(self, selected: "pd.DataFrame") -> Fit | None:
        if self.fit is None:
            return None
        main = selected[selected["exam"] == next(iter(self.exams))]
        groups = [group for _, group in main.groupby(self.x)]
        return self.fit([float(group[self.x].iloc[0]) for group in groups], [counts_of(group) for group in groups])

    def table(self, found: Found) -> Records:
        lines: dict[tuple[Any, ...], dict[str, Any]] = {}
        for line in records(found.estimates):
            by = self.by_label(line[self.by]) if self.by else ""
            row = lines.setdefault((by, line[self.x]), {**({self.by_name or str(self.by): by} if self.by else {})})
            row |= {self.x_label: line[self.x]} | {words: line[column] for column, words in self.beside.items()}
            row[f"{self.exams[line['exam']]} [95 %]"] = ranged(line)
            row.setdefault("_", _about(line))
        columns = list(dict.fromkeys(name for row in lines.values() for name in row if name != "_"))
        return [{name: row.get(name, "") for name in columns} | row["_"] for row in lines.values()]

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        def named(lines: "pd.DataFrame") -> "pd.DataFrame":
            exams = lines["exam"].map(dict(self.exams))
            if self.by is None:
                return lines.assign(series=exams, panel="")
            return lines.assign(series=lines[self.by].map(self.by_label), panel=exams if len(self.exams) > 1 else "")

        fit = dict(found.fit.numbers) if found.fit else {}  # of a transition; the best share has no midpoint
        fit |= {"ci95": None} if found.estimates["seeds"].max() == 1 else {}  # which would be one over seeds
        return show.curve_chart(named(found.estimates), named(found.models), x=self.x, x_label=self.x_label,
                                y_label=self.y_label, series_label=self.by_name, log=self.log,
                                fit=fit if "midpoint" in fit else None, published=published,
                                title=title or self.title, subtitle=self.title if title else "")  # fmt: skip


def _about(line: Mapping[str, Any]) -> dict[str, Any]:
    """The last columns of a table: what an estimate rests on."""
    return {"seeds": line["seeds"], "not learned": line["not_learned"], "interval over": line["over"]}


def _common(values: "pd.Series[Any]") -> Any:
    """What the models of one estimate have in common: the mean of numbers with a fraction, else the first value."""
    return float(values.mean()) if values.dtype.kind == "f" else values.iloc[0]


def _found(lines: Records, selected: "pd.DataFrame", names: Sequence[str], fit: Fit | None = None,
           columns: list[str] | None = None) -> Found:  # fmt: skip
    """What was estimated, with the models behind it; `columns` are those of no estimate, too."""
    import pandas as pd

    return Found(pd.DataFrame(lines, columns=columns), _models(selected, names), fit)


def _models(selected: "pd.DataFrame", names: Sequence[str]) -> "pd.DataFrame":
    """One line per model and exam: its dials, seed, accuracy and whether it has learned."""
    accuracy = [sum(right) / max(1, float(np.sum(asked)))
                for right, asked in zip(selected["right"], selected["asked"], strict=True)]  # fmt: skip
    kept = [name for name in dict.fromkeys([*names, "seed", "learned", "study", "address"]) if name in selected]
    return selected[kept].assign(accuracy=accuracy)


def models_of(view: Curve, rows: "pd.DataFrame") -> "pd.DataFrame":
    """The single models of a curve, of which nothing is estimated: as `Found.models`."""
    names = [*([view.by] if view.by else []), view.x, "exam"]
    return _models(view.select(rows, list(view.exams)), names)


@dataclass(frozen=True, kw_only=True)
class Matrix(View):
    """A matrix: trained on (rows) against tested on (columns).

    Attributes:
        dials: The columns of the long rows that tell the matrix's rows apart.
        label: How a person reads a row, from its dials.
        exams: The matrix's columns, and how a person reads them; those that no row has are left out. Empty: all that
            were measured, by their own names.
        framed: From a row's dials and an exam: whether the cell gets a frame, such as what was trained on.
        main: Exams (or pools) that are estimated and in the table, but not columns of the matrix.
        diverging: Whether estimates may be below 0, and are coloured by their sign.
        colour_label: What the estimates are of, beside their colours.
    """

    dials: Sequence[str]
    label: Callable[[Mapping[str, Any]], str]
    exams: Mapping[str, str]
    framed: Callable[[Mapping[str, Any], str], bool] = lambda row, exam: False
    main: Mapping[str, str] = field(default_factory=dict)
    x_label: str = "tested on"
    rows_name: str = "trained on"
    diverging: bool = False
    colour_label: str = "Accuracy"

    def measure(self, rows: "pd.DataFrame") -> Found:
        names = [*self.dials, "exam"]
        selected = self.select(rows, list(dict.fromkeys([*self.exams, *self.main])))
        lines = [at | {"label": self.label(at), "framed": self.framed(at, at["exam"])} | self.estimate(group)
                 for at, group in _groups(selected, names, None)]  # fmt: skip
        return _found(lines, selected, names)

    def _columns(self, found: Found) -> dict[str, str]:
        return dict(self.exams) or {exam: exam for exam in found.estimates["exam"].unique()}

    def table(self, found: Found) -> Records:
        rows: dict[str, dict[str, Any]] = {}
        shown = self.main or self._columns(found)
        for line in records(found.estimates):
            row = rows.setdefault(line["label"], {self.rows_name: line["label"]})
            if line["exam"] in shown:
                row[f"{shown[line['exam']]} [95 %]"] = ranged(line)
                row["_"] = _about(line)
        order = [f"{words} [95 %]" for words in shown.values()]
        return [{self.rows_name: row[self.rows_name]} | {name: row[name] for name in order if name in row} | row["_"]
                for row in rows.values() if "_" in row]  # fmt: skip

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        exams = self._columns(found)
        cells = found.estimates[found.estimates["exam"].isin(list(exams))]
        cells, ends = cells.assign(column=cells["exam"].map(exams)), {*map(int, cells["seeds"].agg(["min", "max"]))}
        return show.heat_map(
            records(cells), x="column", y="label", outlined="framed",
            x_order=[words for exam, words in exams.items() if exam in set(cells["exam"])], x_label=self.x_label,
            diverging=self.diverging, colour_label=self.colour_label, title=title or self.title,
            subtitle=f"Mean over seeds ({' to '.join(map(str, sorted(ends)))}); below it the 95 % interval"
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Gains(View):
    """Paired differences: what each arm gains over the baseline on the same questions, seed by seed.

    Attributes:
        arm: The column that tells arms apart; `order` from its values to a sorting key, the smallest is the baseline.
        baseline: Its value, where it is not the smallest.
        exam: What is graded, `exam_label` how a person reads it.
        by: A column within which arms are compared; one block per value.
    """

    arm: str
    arm_label: Callable[[Any], str] = str
    arm_name: str = ""
    exam: str
    exam_label: str
    baseline: Any = None
    by: str | None = None

    def measure(self, rows: "pd.DataFrame") -> Found:
        selected = self.select(rows, [self.exam])
        lines: Records = []
        for value, block in selected.groupby(self.by, sort=False) if self.by else [("", selected)]:
            lines += [({self.by: value} if self.by else {}) | line for line in self._block(block)]
        names = [*([self.by] if self.by else []), self.arm, "exam"]
        columns = [*names[:-1], "exam", "mean", "lo", "hi", "seeds", "not_learned", "over"]
        return _found(lines, selected, names, columns=columns)

    def ordered(self, lines: Records) -> Records:
        """Estimates as people read them: methods from the largest gain down, arms along a dial in their order."""
        blocks, named = [line.get(self.by or "") for line in lines], self.baseline is not None
        return sorted(lines, key=lambda line: (blocks.index(line.get(self.by or "")), -line["mean"] * named))

    def paired(self, rows: "pd.DataFrame") -> tuple[list[Any], list[NDArray[np.float64]]]:
        """The arms, the baseline first, and for each seed that has them all their scores on each question, [G, P]."""
        values, tables = rows[self.arm].unique().tolist(), []
        arms = list(dict.fromkeys(sorted(values) if self.baseline is None else [self.baseline, *values]))
        for _, group in rows.groupby("seed"):
            lines = group.drop_duplicates(self.arm).set_index(self.arm)
            if set(lines.index) == set(arms):
                tables.append(np.array([scores_of(*lines.loc[arm, ["right", "asked"]]) for arm in arms]))
        return arms, tables

    def _block(self, rows: "pd.DataFrame") -> Records:
        arms, scores = self.paired(rows)
        lines: Records = []
        for place, arm in enumerate(arms[1:], 1) if scores else ():
            mean, lo, hi = grade.paired_difference(scores, place, 0, same_problems=same_questions(rows))
            not_learned = int((~rows[rows[self.arm].isin([arm, arms[0]])]["learned"].astype(bool)).sum())
            line = {self.arm: arm, "exam": self.exam, "mean": mean, "lo": lo, "hi": hi, "seeds": len(scores)}
            lines.append(line | {"not_learned": not_learned, "over": "seeds and questions, in pairs"})
        return lines

    def table(self, found: Found) -> Records:
        return [({self.by: line[self.by]} if self.by else {})
                | {self.arm_name or self.arm: self.arm_label(line[self.arm])}
                | {f"gain, {self.exam_label} [95 %]": signed(line["mean"], line["lo"], line["hi"]),
                   "seeds": line["seeds"]} for line in self.ordered(records(found.estimates))]  # fmt: skip

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        lines = [line | {"name": self.arm_label(line[self.arm]), "ci95": [line["lo"], line["hi"]]}
                 for line in self.ordered(records(found.estimates))]  # fmt: skip
        return show.forest_chart(lines, name="name", group=self.by, reference=0.0, x_label=f"gain, {self.exam_label}",
                                 title=title or self.title)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pairs(View):
    """Paired differences of named pairs: what the second arm scores above the first, over the seeds that have both.

    All arms of a seed sit one exam. Scores are means over its questions, and instructions are resampled.

    Attributes:
        arm: The column that tells arms apart; `arm_label` how a person reads a value.
        pairs: Two arms, and what the second has that the first has not; pairs that were not both measured are left out.
        exam: What is graded.
    """

    arm: str
    arm_label: Callable[[Any], str] = str
    pairs: Mapping[tuple[Any, Any], str]
    exam: str

    def measure(self, rows: "pd.DataFrame") -> Found:
        selected = self.select(rows, [self.exam])
        gains = {pair: self.gain(selected, *pair) for pair in self.pairs}
        lines = [{"from": one, "to": other, "what": self.pairs[one, other], "exam": self.exam, **gain}
                 for (one, other), gain in gains.items() if gain]  # fmt: skip
        return _found(lines, selected, [self.arm, "exam"])

    def gain(self, selected: "pd.DataFrame", one: Any, other: Any) -> dict[str, Any] | None:
        """What `other` scores above `one` in pairs; None where no seed has both."""
        both = selected[selected[self.arm].isin([one, other])]
        tables = []
        for _, group in both.groupby("seed"):
            counts = counts_of(group.set_index(self.arm).loc[[one, other]].reset_index()) if len(group) == 2 else []
            if counts:  # scaled so that means are over questions
                tables.append(np.array([np.asarray(c.right) / np.asarray(c.asked).mean() for c in counts]))
        if not tables:
            return None
        mean, lo, hi = grade.paired_difference(tables, 1, 0, same_problems=same_questions(both))
        about = {"not_learned": int((~both["learned"].astype(bool)).sum()), "over": "seeds and questions, in pairs"}
        return {"mean": mean, "lo": lo, "hi": hi, "seeds": len(tables), **about}

    def table(self, found: Found) -> Records:
        return [{"from": self.arm_label(line["from"]), "to": self.arm_label(line["to"]), "what is added": line["what"]}
                | {"gain [95 %]": signed(line["mean"], line["lo"], line["hi"]), "verdict": verdict(line)}
                | {"seeds": line["seeds"]} for line in records(found.estimates)]  # fmt: skip

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        lines = [{"name": f"{self.arm_label(line['from'])} -> {self.arm_label(line['to'])}", "mean": line["mean"]}
                 | {"ci95": [line["lo"], line["hi"]]} for line in records(found.estimates)]  # fmt: skip
        return show.forest_chart(lines, name="name", reference=0.0, x_label="gain, in pairs (share)",
                                 title=title or self.title)  # fmt: skip


def verdict(line: Mapping[str, Any]) -> str:
    """Whether a difference is one: its whole interval lies on one side of zero, and it rests on two seeds or more."""
    up = Evidence(line["lo"], line["hi"], low=ABOVE_ZERO, seeds=line["seeds"])
    down = Evidence(-line["hi"], -line["lo"], low=ABOVE_ZERO, seeds=line["seeds"])
    return "better" if up.inside else "worse" if down.inside else "not decided"


@dataclass(frozen=True, kw_only=True)
class Forest(View):
    """The mean of each arm, and beside it what it gains over one of them in pairs.

    Attributes:
        arm: The column that tells arms apart; `arm_label` how a person reads a value.
        exam: What is graded, `x_label` how a person reads it.
        versus: The arm that gains are over, where it was measured.
        beside: Columns of the models whose means a table shows too, and how a person reads them.
    """

    arm: str
    arm_label: Callable[[Any], str] = str
    exam: str
    x_label: str
    versus: Any
    beside: Mapping[str, str] = field(default_factory=dict)

    def measure(self, rows: "pd.DataFrame") -> Found:
        selected, lines = self.select(rows, [self.exam]), []
        pairs = Pairs(title=self.title, arm=self.arm, pairs={}, exam=self.exam)
        for at, group in _groups(selected, [self.arm, "exam"], None):
            gain = None if at[self.arm] == self.versus else pairs.gain(selected, self.versus, at[self.arm])
            means = {name: float(group[name].fillna(0).mean()) if name in group else 0.0 for name in self.beside}
            lines.append(at | self.estimate(group) | {"gain": gain} | means)
        return _found(lines, selected, [self.arm, "exam"])

    def table(self, found: Found) -> Records:
        return [{self.arm: self.arm_label(line[self.arm]), f"{self.exam} [95 %]": ranged(line)}
                | {f"gain over {self.arm_label(self.versus)}, in pairs [95 %]": signed_gain(line["gain"])}
                | {"verdict": verdict(line["gain"]) if line["gain"] else ""}
                | {words: round(line[name]) for name, words in self.beside.items()}
                | {"seeds": line["seeds"], "interval over": line["over"]}
                for line in records(found.estimates)]  # fmt: skip

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        from labkit import show

        lines = [{"name": self.arm_label(line[self.arm]), "mean": line["mean"], "ci95": [line["lo"], line["hi"]]}
                 | {"gain": gain and gain["mean"], "gain_ci95": gain and [gain["lo"], gain["hi"]]}
                 for line in records(found.estimates) for gain in [line["gain"]]]  # fmt: skip
        models = found.models.assign(name=found.models[self.arm].map(self.arm_label))
        versus = self.arm_label(self.versus)
        beside: dict[str, Any] = {"difference": "gain", "difference_interval": "gain_ci95", "versus": versus}
        return show.forest_chart(lines, name="name", models=models, value="accuracy", x_label=self.x_label,
                                 title=title or self.title, subtitle=self.title if title else "",
                                 **(beside if len(lines) > 1 and versus in {line["name"] for line in lines}
                                    else {}))  # fmt: skip


def signed_gain(gain: Mapping[str, Any] | None) -> str:
    """A paired difference for people; nothing where there is none."""
    return signed(gain["mean"], gain["lo"], gain["hi"]) if gain else ""


@dataclass(frozen=True, kw_only=True)
class ByKind(View):
    """A view of every kind of an exam that there is, where the kinds depend on the parameters."""

    exam: str
    view: Curve | Matrix

    def measure(self, rows: "pd.DataFrame") -> Found:
        chosen = rows[self.where(rows)] if self.where else rows
        if not (chosen["exam"].eq(self.exam) & chosen["kind"].ne("")).any():
            return Found(chosen.iloc[:0], chosen.iloc[:0])
        return self._of(chosen["key"]).measure(chosen)

    def table(self, found: Found) -> Records:
        return self._of(found.estimates["exam"]).table(found)

    def chart(self, found: Found, published: Sequence[Mapping[str, Any]] = (), title: str = "") -> "alt.TopLevelMixin":
        return self._of(found.estimates["exam"]).chart(found, published, title)

    def _of(self, keys: "pd.Series[str]") -> Curve | Matrix:
        kinds = [key for key in dict.fromkeys(keys) if key.startswith(f"{self.exam}:") and "/" not in key]
        return replace(self.view, exams={key: key.partition(":")[2] for key in kinds})
