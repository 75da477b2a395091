"""Mixtures: which examples of which sources make a training set, under an exact budget of examples or tokens.

Guaranteed:
- *Exact.* One after the other, the source furthest below its share gives its next example, until the next one would
  exceed the budget: the total never does, and no further example fits. With a budget of examples this is rounding by
  largest remainders: the total is the budget and each source is within one example of its share. With a budget of
  tokens weights are shares of tokens; a source is above its share by less than one example.
- *Deterministic.* A source's examples come in the order of a hash of the seed and the example: equal files and specs
  give equal mixtures; a larger budget, and another repetition of a source, begin as the smaller does.
- *Bounded.* Each source is read once, to its end. Held of it are the examples that may be taken, and no more: its share
  of the budget, the whole budget under `reshare`; and a line for every contaminated record.
- *Whole or not at all.* After a kill, a power cut or a full disk `mix` goes on by the same command (`design.durable`).
- *Without duplicates* (`deduplicate`): two examples are equal when instruction and input are, up to case and white
  space; the first read is kept, of several sources the one listed first.
When a source runs out: `stop` composes the largest set that has the shares asked for; `repeat` starts the source over
(`epochs` says how often it was gone through); `reshare` gives what it lacks to the others, by their weights.
Left open: near duplicates; tokens are those of instruction, input and output: a chat template's are not counted.
"""

import json
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from hashlib import blake2b, file_digest, sha256
from heapq import heappop, heappush
from itertools import islice
from math import lcm
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, Field, StrictInt, StrictStr, ValidationError, model_validator

from labkit.design import plain_yaml
from labkit.design.decontamination import DEFAULT_N, Decontaminator, located
from labkit.design.durable import check_folder, refusing, write_folder
from labkit.errors import BadRequest, unknown
from labkit.instructions import Example
from labkit.instructions.corpora import CORPORA, OnBad, Reader, read

_BATCH = 512  # examples tokenised together
_LISTED = 20  # contaminated pairs in the manifest; the file has all
_MOST_REPEATED = 10_000_000  # examples of a set whose sources are repeated

_SHORT = reprlib.Repr()  # a spec may hold anything of any size
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 80, 80

Count = Callable[[Sequence[str]], list[int]]


def _number(value: Any) -> Any:
    """A weight in digits: `yes`, `010` and `1:30` are none."""
    written = re.compile(r"(?:[1-9]\d*|0|(?=\.\d))(?:\.\d*)?(?:[eE][-+]?\d+)?")
    if isinstance(value, bool) or (isinstance(value, str) and not written.fullmatch(value)):
        raise ValueError("a number is wanted")
    return value


Weight = Annotated[float, BeforeValidator(_number)]


class Source(BaseModel, frozen=True, extra="forbid"):
    """Where a part of a mixture comes from: a corpus, a local copy of it, or a file; see `corpora.read`."""

    corpus: str | None = Field(None, description="a name in CORPORA")
    path: str | None = Field(None, description="a local file or folder")
    weight: Weight = Field(gt=0, allow_inf_nan=False, description="its share of the budget")
    fields: dict[str, StrictStr | StrictInt] | None = Field(None, description="columns: instruction, output, input")
    on_bad: OnBad = Field("refuse", description="what becomes of bad records: refuse or skip")

    def reader(self, base: Path) -> Reader:
        path = located(base, self.path) if self.path else None
        source = self.corpus or path
        if source is None:
            raise BadRequest("a source needs a corpus or a path")
        return read(source, path=path if self.corpus else None, fields=self.fields, on_bad=self.on_bad)


class Mixture(BaseModel, frozen=True, extra="forbid"):
    """The design of a training set; what each rule means is said at the head of this module."""

    sources: tuple[Source, ...] = Field(min_length=1)
    examples: int | None = Field(None, gt=0, strict=True, description="budget in examples, or")
    tokens: int | None = Field(None, gt=0, strict=True, description="budget in tokens")
    tokenizer: str = Field("words", description="id or folder of a Hugging Face tokenizer, or words, or bytes")
    when_exhausted: Literal["stop", "repeat", "reshare"] = "stop"
    deduplicate: bool = True
    normalise: bool = Field(False, description="divide weights by their sum where it is not 1")
    seed: int = Field(0, ge=0, strict=True)
    decontaminate: tuple[str, ...] | None = Field(None, description="test files; [] says that none is wanted")
    n: int = Field(DEFAULT_N, ge=1, strict=True, description="words in a row that make an overlap")

    @model_validator(mode="after")
    def _consistent(self) -> "Mixture":
        if (self.examples is None) == (self.tokens is None):
            raise BadRequest("a mixture has one budget: either examples or tokens")
        total = sum(source.weight for source in self.sources)
        if abs(total - 1) > 1e-6 and not self.normalise:
            hint = "`normalise: true` would divide them by their sum"
            raise BadRequest(f"the weights sum to {total:g}, not to 1; {hint}")
        code = [s.corpus for s in self.sources if s.corpus in CORPORA and CORPORA[s.corpus].task_type == "code"]
        if code and self.decontaminate is None:
            raise BadRequest(f"'{code[0]}' is code: `decontaminate` must name the test files that it is kept apart "
                             "from, such as HumanEval and MBPP, or be [] if that is meant")  # fmt: skip
        return self

    @property
    def budget(self) -> int:
        return self.examples or self.tokens or 0

    @classmethod
    def load(cls, path: str | Path) -> "Mixture":
        """A mixture from a YAML file.

        Raises:
            BadRequest: for a missing or broken file, an unknown key, or a value that does not fit.
        """
        spec = plain_yaml.load(located(".", path))
        if not isinstance(spec, dict):
            raise BadRequest(f"{path} is no mapping: a mixture names {', '.join(cls.model_fields)}")
        if odd := [name for name in spec if name not in cls.model_fields]:
            raise unknown(f"field of the mixture {path}", _SHORT.repr(odd[0]).strip("'"), cls.model_fields)
        try:
            return cls.model_validate(spec)
        except ValidationError as error:
            first = error.errors()[0]
            if first["type"] == "extra_forbidden":  # of a source: the mixture's own fields were looked at
                raise unknown(f"field of a source in {path}", str(first["loc"][-1])[:80], Source.model_fields) from None
            cause, where = first.get("ctx", {}).get("error"), ".".join(map(str, first["loc"]))
            other = f"{where} = {_SHORT.repr(first['input'])}: {first['msg']}"
            raise BadRequest(f"{path}: {cause if isinstance(cause, BadRequest) else other}") from None


class Mixed(NamedTuple):
    """A composed training set.

    Attributes:
        examples: In a random order that the seed decides.
        manifest: What was asked for and what was given, source by source; JSON.
        contaminated: A pair of training record and test for each overlap found.
    """

    examples: list[Example]
    manifest: dict[str, Any]
    contaminated: list[dict[str, Any]]


class _Entry(NamedTuple):
    """An example that may be taken: its place in the seed's order, its tokens, and what it takes of the budget."""

    rank: int
    tokens: int
    cost: int
    example: Example


@refusing("the mixture cannot be composed")
def compose(mixture: Mixture, base: str | Path = ".") -> Mixed:
    """Draw the training set that a mixture describes; its paths are relative to `base`.

    Raises:
        BadRequest: for a source or test file that cannot be read, bad records that are not skipped, a source of which
            decontamination or de-duplication leaves nothing, an unknown tokenizer, a budget below one example.
    """
    base = Path(base)
    count, tests = _counter(mixture.tokenizer, base), mixture.decontaminate or ()
    readers = [source.reader(base) for source in mixture.sources]
    guard = Decontaminator(tests, mixture.n, base=base) if tests else None
    parts, pools = _parts(mixture), list[_Pool]()
    for reader, part in zip(readers, parts, strict=True):
        room = mixture.budget if mixture.when_exhausted == "reshare" else -(-mixture.budget * part // sum(parts))
        pool = _Pool(reader, room, pools)
        pool.fill(mixture, count, guard)
        pools.append(pool)
    reached, given = _drawn(pools, parts, mixture)
    rows = [{"asked": round(mixture.budget * part / sum(parts)), **pool.row(source, drawn)}
            for source, pool, drawn, part in zip(mixture.sources, pools, given, parts, strict=True)]  # fmt: skip
    examples = [entry.example for drawn in given for entry in drawn]
    Random(mixture.seed).shuffle(examples)
    contaminated = [pair for pool in pools for pair in pool.contaminated]
    spec = mixture.model_dump(mode="json")
    seal = sha256(json.dumps(spec, sort_keys=True).encode())
    for example in examples:
        seal.update(_line(vars(example)).encode())
    overlaps = {"pairs": len(contaminated),
                "by_test_set": dict.fromkeys(tests, 0) | Counter(pair["test_set"] for pair in contaminated),
                "by_match": dict(Counter(pair["match"] for pair in contaminated)),
                "first": contaminated[:_LISTED]}  # fmt: skip
    notes = [f"{row['source']}: {note}" for row in rows for note in row["notes"]]
    manifest = {
        "spec": spec, "unit": "examples" if mixture.examples else "tokens", "asked": mixture.budget, "reached": reached,
        "examples": len(examples), "tokens": sum(row["tokens"] for row in rows), "sources": rows,
        "tests": {file: digest(located(base, file)) for file in tests}, "tests_too_short": guard.short if guard else 0,
        "tests_not_looked_for": {read.file: read.unchecked for read in guard.test_sets} if guard else {},
        "contaminated": overlaps, "notes": notes + (guard.notes if guard else []), "fingerprint": seal.hexdigest(),
    }  # fmt: skip
    return Mixed(examples, manifest, contaminated)


def mix(spec: str | Path, out: str | Path) -> dict[str, Any]:
    """Compose the mixture of a YAML file, whose paths are relative to it, and write it; returns the manifest.

    The files are train.jsonl, manifest.json and, where records are contaminated, contaminated.jsonl.

    Raises:
        BadRequest: as `Mixture.load` and `compose`; for a folder that holds anything but a mix of the same spec, or
            that cannot be written.
    """
    spec, out = located(".", spec), located(".", out)
    mixture = Mixture.load(spec)
    asked = mixture.model_dump(mode="json")
    with refusing(f"{out} cannot be written"):
        check_folder(out, asked)
    mixed = compose(mixture, spec.parent)
    bad = map(_line, mixed.contaminated) if mixed.contaminated else None
    manifest = [json.dumps(mixed.manifest, indent=1, ensure_ascii=False) + "\n"]
    train = map(_line, map(vars, mixed.examples))
    write_folder(out, asked, {"train.jsonl": train, "contaminated.jsonl": bad, "manifest.json": manifest})
    return mixed.manifest


class _Pool:
    """Of a source: the examples that come first in the seed's order, just as many as its room asks for.

    Attributes:
        room: The most that the source may be asked for, in the unit of the budget.
        heap: What is held, the last in the order on top; `order`: the same once all is read, the first in front.
        copies: How many more of each example that is held were met, by its rank.
        elsewhere: How many of its examples are in sources before it.
    """

    def __init__(self, reader: Reader, room: int, before: Sequence["_Pool"]) -> None:
        self.reader, self.room, self.before = reader, room, tuple(before)
        self.size = self.elsewhere = 0
        self.heap: list[tuple[int, _Entry]] = []
        self.order: list[_Entry] = []
        self.copies: dict[int, int] = {}
        self.contaminated: list[dict[str, Any]] = []

    def fill(self, mixture: Mixture, count: Count, guard: Decontaminator | None) -> None:
        """Read the source to its end."""
        fresh = self._fresh(mixture, guard)
        while batch := list(islice(fresh, _BATCH)):
            for (rank, example), tokens in zip(batch, count([_text(example) for _, example in batch]), strict=True):
                cost = tokens if mixture.tokens else 1
                heappush(self.heap, (-rank, _Entry(rank, tokens, cost, example)))
                self.size += cost
                while self.size - self.heap[0][1].cost >= self.room:
                    _, last = heappop(self.heap)
                    self.size -= last.cost
                    del self.copies[last.rank]
        self.order = sorted(entry for _, entry in self.heap)
        if not self.order:
            raise BadRequest(f"nothing is left of the source '{self.reader.name}': of {self.reader.good} records "
                             f"{self.n_contaminated} are contaminated and {self.elsewhere} are in sources before "
                             "it")  # fmt: skip

    def _fresh(self, mixture: Mixture, guard: Decontaminator | None) -> Iterator[tuple[int, Example]]:
        """The clean examples, with their ranks, that may be among those that are held, each once."""
        key = str(mixture.seed).encode()
        for number, example in enumerate(self.reader):
            if overlaps := guard.overlaps(example) if guard else []:
                asks = {"source": self.reader.name, "example": number + 1, "instruction": example.instruction[:200]}
                self.contaminated += [asks | overlap._asdict() for overlap in overlaps]
                continue
            text = " ".join(f"{example.instruction} {example.input}".lower().split())
            what = text if mixture.deduplicate else f"{len(self.before)} {number}"
            rank = int.from_bytes(blake2b(what.encode(), digest_size=16, key=key).digest(), "big")
            if any(rank in pool.copies for pool in self.before):
                self.elsewhere += 1
            elif rank in self.copies:
                self.copies[rank] += 1
            elif self.size < self.room or rank < -self.heap[0][0]:
                self.copies[rank] = 0
                yield rank, example

    @property
    def n_contaminated(self) -> int:
        return len({pair["example"] for pair in self.contaminated})

    def row(self, source: Source, drawn: list[_Entry]) -> dict[str, Any]:
        """What the manifest says: where the records come from (a file and its digest, or the hub and the commit), and
        what was drawn of them."""
        reader, corpus, local = self.reader, self.reader.corpus, self.reader.path
        return {"source": reader.name, "file": source.path, "sha256": digest(local) if local else None,
                "hub": corpus.hub if corpus and not local else None, "revision": None if local else reader.revision,
                "licence": corpus.licence if corpus else None, "task_type": corpus.task_type if corpus else None,
                "examples": len(drawn), "tokens": sum(entry.tokens for entry in drawn),
                "epochs": round(max(1, len(drawn) / len(self.order)), 3), "records": reader.good + reader.bad.total(),
                "bad": dict(reader.bad), "contaminated": self.n_contaminated,
                "duplicates": self.elsewhere + sum(self.copies.values()), "notes": reader.notes}  # fmt: skip


def _drawn(pools: list[_Pool], parts: list[int], mixture: Mixture) -> tuple[int, list[list[_Entry]]]:
    """The budget that is reached, and what each source gives."""
    budget, rule = mixture.budget, mixture.when_exhausted
    if rule == "stop":  # a source that does not fill its room has no more to give
        for pool, part in zip(pools, parts, strict=True):
            budget = min(budget, pool.size * sum(parts) // part) if pool.size < pool.room else budget
    if rule == "repeat":
        _check_repeats(pools, parts, budget)
    given: list[list[_Entry]] = [[] for _ in pools]
    spent = [0] * len(pools)
    active, left, weight = list(range(len(pools))), budget, sum(parts)
    while active:
        place = max(active, key=lambda i: parts[i] * left - spent[i] * weight)  # the one furthest below its share
        order = pools[place].order
        if len(given[place]) >= len(order) and rule != "repeat":
            active.remove(place)
            left, weight = left - spent[place], weight - parts[place]
            continue
        entry = order[len(given[place]) % len(order)]
        if sum(spent) + entry.cost > budget:
            break
        given[place].append(entry)
        spent[place] += entry.cost
    else:
        budget = min(budget, sum(spent))
    if not any(given):
        raise BadRequest(f"a budget of {budget} holds no example of these sources")
    return budget, given


def _check_repeats(pools: list[_Pool], parts: list[int], budget: int) -> None:
    """Refuse a budget that would repeat the sources beyond what a machine holds."""
    held = sum(len(pool.order) for pool in pools)
    shares = (budget * part // sum(parts) for part in parts)
    drawn = sum(share * len(pool.order) // pool.size for share, pool in zip(shares, pools, strict=True))
    if drawn > max(_MOST_REPEATED, held):
        raise BadRequest(f"a budget of {_SHORT.repr(budget)} would repeat the {held} examples of these sources to more "
                         f"than {_MOST_REPEATED:,}: name a smaller one")  # fmt: skip


def _parts(mixture: Mixture) -> list[int]:
    """The weights as whole numbers in the same proportions, so that shares are exact."""
    weights = [Fraction(repr(source.weight)) for source in mixture.sources]
    unit = lcm(*(weight.denominator for weight in weights))
    return [int(weight * unit) for weight in weights]


def _counter(tokenizer: str, base: Path) -> Count:
    if tokenizer in ("words", "bytes"):
        return lambda texts: [len(text.split() if tokenizer == "words" else text.encode()) for text in texts]
    from transformers import AutoTokenizer

    folder = located(base, tokenizer)
    try:
        encode = AutoTokenizer.from_pretrained(str(folder) if folder.is_dir() else tokenizer)
    except (OSError, ValueError) as error:
        raise BadRequest(f"no tokenizer '{tokenizer}' ({type(error).__name__}); offline, name a folder with one, or "
                         "words or bytes") from None  # fmt: skip
    plain = {"add_special_tokens": False, "verbose": False}
    return lambda texts: [max(1, len(ids)) for ids in encode(list(texts), **plain)["input_ids"]]


def _text(example: Example) -> str:
    return "\n".join(part for part in (example.instruction, example.input, example.output) if part)


def _line(record: Mapping[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def digest(path: Path) -> str:
    """The SHA-256 of a file; of a folder, of its files' names and digests."""
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if file.is_file())
        return sha256("".join(f"{file.relative_to(path)} {digest(file)}\n" for file in inside).encode()).hexdigest()
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
