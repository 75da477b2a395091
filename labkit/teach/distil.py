"""What a teacher adds to a training set: kinds of tasks, new pairs, better responses.

The steps of TAPIR (Yue et al. 2024, arXiv 2405.13448) that ask a teacher: classification of tasks, expansion from seeds
in the prompt, and refinement of responses in the way that suits the kind of task.

Guaranteed: every result comes with `counts` that add up to what was asked; a failure or a reply that cannot be read
leaves an example as it was (its kind unknown, its response the old one); a new pair is kept only if its question is no
copy, up to case and white space (as in `labkit.design.mixture`), and neither `forbidden` nor contaminated.
Left open: whether the teacher is right: a new answer or a refined response is not graded here; near copies pass.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import NamedTuple

import numpy as np

from labkit.design.curriculum import apportion
from labkit.design.decontamination import Decontaminator
from labkit.errors import BadRequest, unknown
from labkit.instructions import Example
from labkit.teach import prompts
from labkit.teach.client import Failure
from labkit.teach.judge import Asker, ask

SOURCE = "expansion"
OF_PAIRS = ("written", "unreadable", "duplicates", "forbidden", "contaminated", "surplus", "kept")
EXPANDED = ("wanted", "requests", "failed", *OF_PAIRS, "missing", "untyped")
REFINED = ("asked", "refined", "same", "empty", "truncated", "failed", "untyped")

Forbidden = Callable[[str], str | None]


class Classified(NamedTuple):
    """The kind of each question, None where it is not known; asked = classified + unreadable + failed."""

    kinds: list[str | None]
    counts: dict[str, int]


class Expanded(NamedTuple):
    """New pairs.

    Attributes:
        examples: Kept, their source `SOURCE`; an `instruction_id` says which share an instruction, up to case and
            white space.
        kinds: The kind of each, its seeds'.
        origins: Places of the seeds that each was written after.
        counts: Of requests: requests, of which failed. Of pairs: written = kept + duplicates + forbidden + contaminated
            + surplus, and lines that are no pair (unreadable); wanted = kept + missing. Of seeds: untyped.
    """

    examples: list[Example]
    kinds: list[str]
    origins: list[tuple[int, ...]]
    counts: dict[str, int]


class Refined(NamedTuple):
    """The examples, in order, with the teacher's responses where there are any.

    `counts`: asked = refined + same + empty + truncated + failed; `untyped` ones were refined in the general way.
    """

    examples: list[Example]
    counts: dict[str, int]


class _Group(NamedTuple):
    """Seeds of one kind and difficulty, by place, and the new pairs that were wanted and kept, with their seeds."""

    kind: str
    members: list[int]
    wanted: int
    kept: list[tuple[Example, tuple[int, ...]]]


def question_of(example: Example) -> str:
    """What is asked: the instruction and, below it, its input."""
    return f"{example.instruction}\n{example.input}" if example.input else example.instruction


def normal(instruction: str, text: str = "") -> str:
    """What two copies of a question have in common: its words without case and white space."""
    return " ".join(f"{instruction} {text}".lower().split())


def classify_all(asker: Asker, questions: Sequence[str], kinds: Mapping[str, str]) -> Classified:
    """The kind of task of each question, as a teacher sees it; `kinds` maps each name to a description.

    Raises:
        BadRequest: when there are no kinds to choose from.
    """
    if not kinds:
        raise BadRequest("a classifier needs kinds of tasks to choose from")
    replies = ask(asker, [prompts.classify(question, kinds) for question in questions])
    found = [None if isinstance(reply, Failure) else prompts.read_kind(reply.text, list(kinds)) for reply in replies]
    failed = sum(isinstance(reply, Failure) for reply in replies)
    n, known = len(found), len(found) - found.count(None)
    counts = {"asked": n, "classified": known, "unreadable": n - known - failed, "failed": failed}
    return Classified(found, counts)


def expand_all(
    asker: Asker, seeds: Sequence[Example], kinds: Sequence[str | None], n: int | Mapping[str, int], *,
    difficulty: Sequence[float | str] | None = None, shown: int = 4, each: int = 4, tries: int = 3,
    known: Sequence[Example] = (), forbidden: Forbidden | None = None, guard: Decontaminator | None = None,
    types: Mapping[str, str] | None = None, seed: int = 0,
) -> Expanded:  # fmt: skip
    """New pairs like the seeds, written by a teacher who sees some of one kind and difficulty (TAPIR, expansion).

    Seeds of one kind and difficulty make a group, which gets its share of `n`. Each request shows some of a group, by
    turns, and asks for a few pairs; what is missing afterwards is asked for again, as another sample.

    Args:
        asker: The teacher.
        seeds: Pairs to write after.
        kinds: The kind of each seed; one without (None) is not used, and counted.
        n: How many new pairs: in all, shared out as the seeds are, or for each kind.
        difficulty: Of each seed, in a few steps, such as its MFD; seeds of one step are shown together.
        shown: Seeds per request.
        each: The most pairs that one request asks for.
        tries: How often what is missing is asked for.
        known: Other examples that a new one must not copy.
        forbidden: A reason why a question may not be trained on (a test's, say), or None.
        guard: Keeps out what shares words with a test.
        types: The task type of each kind, in whose way the outputs are to be written (as by `refine_all`), so that
            they need no refinement; None: plainly.
        seed: Decides which seeds are shown together.

    Raises:
        BadRequest: for lists of different lengths, a kind without seeds, or a number below 1.
    """
    groups = _groups(kinds, difficulty, len(seeds), n)
    if min(shown, each, tries) < 1:
        raise BadRequest(f"shown = {shown}, each = {each} and tries = {tries} must be 1 or more")
    met = {normal(example.instruction, example.input) for example in (*seeds, *known)}
    counts = Counter({"wanted": sum(group.wanted for group in groups), "untyped": list(kinds).count(None)})
    rng = np.random.default_rng(seed)
    for sample in range(tries):
        asked, chats = [], []
        for group in groups:
            left = group.wanted - len(group.kept)
            order = rng.permutation(np.array(group.members, np.int64))
            how = None if types is None else types.get(group.kind, "")
            for number, start in enumerate(range(0, left, each)):
                origins = tuple(np.roll(order, -number * shown)[:shown].tolist())  # by turns
                pairs = [(seeds[i].instruction, seeds[i].input, seeds[i].output) for i in origins]
                asked.append((group, origins))
                chats.append(prompts.expand(pairs, group.kind, min(each, left - start), how))
        counts["requests"] += len(chats)
        for (group, origins), reply in zip(asked, ask(asker, chats, sample), strict=True):
            if isinstance(reply, Failure):
                counts["failed"] += 1
                continue
            pairs, unreadable = prompts.read_pairs(reply.text)
            counts["unreadable"] += unreadable
            for pair in pairs:
                digest = blake2b(normal(pair[0]).encode(), digest_size=8).hexdigest()
                example = Example(*pair, source=SOURCE, instruction_id=digest)
                full = len(group.kept) == group.wanted
                fate = "surplus" if full else _fate(example, met, forbidden, guard)
                counts.update(("written", fate))
                if fate == "kept":
                    met.add(normal(example.instruction, example.input))
                    group.kept.append((example, origins))
    counts["missing"] = counts["wanted"] - counts["kept"]
    rows = [(example, group.kind, origins) for group in groups for example, origins in group.kept]
    found_counts = {name: counts[name] for name in EXPANDED}
    return Expanded([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows], found_counts)


def refine_all(asker: Asker, examples: Sequence[Example], kinds: Sequence[str | None]) -> Refined:
    """The examples with responses rewritten in the way that suits their kind (TAPIR, response refinement).

    An example keeps its response where the teacher failed, wrote nothing, or was cut off.

    Raises:
        BadRequest: for lists of different lengths.
    """
    if len(examples) != len(kinds):
        raise BadRequest(f"{len(examples)} examples and {len(kinds)} kinds: as many of each")
    chats = [prompts.refine(question_of(e), e.output, kind or "") for e, kind in zip(examples, kinds, strict=True)]
    refined = []
    counts = Counter(asked=len(examples), untyped=list(kinds).count(None))
    for example, reply in zip(examples, ask(asker, chats), strict=True):
        text, fate = "", "failed"
        if not isinstance(reply, Failure):
            text = prompts.without_reasoning(reply.text).strip()
            fate = "empty" if not text else "same" if text == example.output.strip() else "refined"
            fate = "truncated" if reply.truncated else fate
        counts[fate] += 1
        refined.append(replace(example, output=text) if fate == "refined" else example)
    return Refined(refined, {name: counts[name] for name in REFINED})


def _groups(
    kinds: Sequence[str | None], difficulty: Sequence[float | str] | None, n_seeds: int, n: int | Mapping[str, int]
) -> list[_Group]:
    """Seeds of one kind and difficulty, in a fixed order, with the number of new pairs each group gets."""
    numbers = [n] if isinstance(n, int) else list(n.values())
    if min(numbers, default=0) < 0 or sum(numbers) < 1:
        raise BadRequest(f"n = {n}: ask for one new pair or more, and for no negative number")
    steps = difficulty if difficulty is not None else [0] * n_seeds
    if not n_seeds == len(kinds) == len(steps):
        raise BadRequest(f"{n_seeds} seeds, {len(kinds)} kinds and {len(steps)} difficulties: as many of each")
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for i, (kind, step) in enumerate(zip(kinds, steps, strict=True)):
        if kind is not None:
            places[kind, str(step)].append(i)
    if not places:
        raise BadRequest(f"none of the {n_seeds} seeds has a kind: there is nothing to write new pairs after")
    present = sorted({kind for kind, _ in places})
    wanted: dict[tuple[str, str], int] = {}
    for kind, number in [(None, n)] if isinstance(n, int) else n.items():
        if kind is not None and kind not in present:
            raise unknown("kind of the seeds", kind, present)
        keys = [key for key in sorted(places) if kind in (None, key[0])]
        wanted |= dict(zip(keys, apportion([len(places[key]) for key in keys], number), strict=True))
    return [_Group(key[0], places[key], wanted[key], []) for key in sorted(places) if wanted.get(key)]


def _fate(example: Example, met: set[str], forbidden: Forbidden | None, guard: Decontaminator | None) -> str:
    """What becomes of a new pair."""
    if normal(example.instruction, example.input) in met:
        return "duplicates"
    if guard and guard.overlaps(example):
        return "contaminated"
    return "forbidden" if forbidden and forbidden(question_of(example)) is not None else "kept"
