"""Demands: "write animals, use 3 words, end with fox": requests with several right answers, which a program verifies.

The lab's own IFEval (arXiv 2311.07911): a request names a kind of word, and makes one to three demands of different
kinds on the answer.

    count     use 3 words              begin, end  begin with fox        commas    put commas between
    include   use the word fox         sorted      in order of the alphabet   quotes    put it in quotes
    avoid     not the word fox         numbered    number the words

The key of an instruction is the *combination* of its kinds of demand: the test split holds combinations that no
training set has, of kinds that all may have. What is right says different words of the kind, in any choice and number
that the demands leave, with the marks that are demanded and no others. `answer` gives one such answer, a fixed one per
request. Guaranteed: every request can be met.
"""

import re
from collections.abc import Callable, Container, Sequence
from itertools import combinations
from random import Random

from labkit.instructions.example import Example
from labkit.instructions.family import Family, Instruction, Split, Task, phrasings, split_of
from labkit.instructions.lexicon import CATEGORIES

FEWEST, MOST, USUAL = 2, 5, 3  # words of an answer that are demanded, and those where none are

KINDS = {  # the wordings of each; `{}` stands for its number or word
    "count": "[use {} words|write {} words|{} words]",
    "begin": "[begin with {}|start with {}|{} is first]",
    "end": "[end with {}|finish with {}|{} is last]",
    "include": "[use the word {}|name {}|include {}]",
    "avoid": "[not the word {}|without {}|avoid {}]",
    "sorted": "[in order of the alphabet|sort the words|sorted]",
    "commas": "[put commas between|with commas|use commas]",
    "quotes": "[put it in quotes|in quotes|use quotes]",
    "numbered": "[number the words|with numbers|use numbers]",
}
MET: dict[str, Callable[[list[str], str], bool]] = {  # of the words of an answer and the setting; marks are apart
    "count": lambda words, n: len(words) == int(n),
    "begin": lambda words, one: words[0] == one,
    "end": lambda words, one: words[-1] == one,
    "include": lambda words, one: one in words,
    "avoid": lambda words, one: one not in words,
    "sorted": lambda words, _: words == sorted(words),
}
NAMING = ("begin", "end", "include", "avoid")  # which name a word
Combination = tuple[str, ...]


def every(split: Split, sizes: Sequence[int] = (1, 2, 3)) -> list[Combination]:
    """All combinations of a split, of so many kinds of demand each."""
    found = [one for size in sizes for one in combinations(KINDS, size)]
    return [one for one in found if split_of(_key(one)) == split]


class Demands(Family):
    """See the module; the setting of an instruction is its kind of word and its demands, (kind, setting) each."""

    name, task_type = "demands", "writing"

    def instruction(self, rng: Random, level: int) -> Instruction:
        chosen = rng.sample(list(KINDS), level)
        return self.of(tuple(kind for kind in KINDS if kind in chosen), rng)

    def of(self, combination: Combination, rng: Random) -> Instruction:
        """A request with these kinds of demand."""
        while True:
            category = rng.choice(list(CATEGORIES))
            words = rng.sample(CATEGORIES[category], len(NAMING))
            settings = {"count": str(rng.randint(FEWEST, MOST)), **dict(zip(NAMING, words, strict=True))}
            demands = [(kind, settings.get(kind, "")) for kind in combination]
            if _met_by(category, demands):
                break
        order = rng.sample(demands, len(demands))
        said = [[text.format(setting) for text in phrasings(KINDS[kind])] for kind, setting in order]
        wordings = tuple(
            ", ".join([f"write {category}", *(texts[place % len(texts)] for texts in said)]) for place in range(3)
        )
        return Instruction(_key(combination), wordings, (category, tuple(order)), wordings[0])

    def task(self, combination: Combination, rng: Random) -> Task:
        """A request with these kinds of demand, in one of its wordings, with a right answer."""
        one = self.of(combination, rng)
        example = Example(rng.choice(one.phrasings), "", self.answer(one, ""), self.name, one.key)
        return Task(example, one, len(combination))

    def input(self, instruction: Instruction, rng: Random, level: int) -> str:
        return ""

    def answer(self, instruction: Instruction, text: str) -> str:
        found = _met_by(*instruction.setting)
        assert found is not None  # as `of` tried
        return found

    def accepts(self, instruction: Instruction, text: str, answer: str) -> bool:
        category, demands = instruction.setting
        return _verified(category, demands, answer.strip())


DEMANDS = Demands()


def _key(combination: Combination) -> str:
    return "demands: " + " + ".join(combination)


def _met_by(category: str, demands: Sequence[tuple[str, str]]) -> str | None:
    """The right answer that is taught: `USUAL` words where no number is demanded, from the last of their kind on."""
    given = dict(demands)
    first, inside, last = ([given[kind]] if kind in given else [] for kind in ("begin", "include", "end"))
    free = [word for word in reversed(CATEGORIES[category]) if word not in given.values()]
    if "sorted" in given:
        low, high = (first or [""])[0], (last or ["~"])[0]
        free = [word for word in free if low < word < high]
    named = len([*first, *inside, *last])
    room = int(given.get("count") or max(USUAL, named)) - named
    words = first + inside + free[: max(room, 0)] + last
    text = _written(sorted(words) if "sorted" in given else words, given)
    return text if _verified(category, demands, text) else None


def _written(words: Sequence[str], kinds: Container[str]) -> str:
    parts = [f"{1 + i} {word}" for i, word in enumerate(words)] if "numbered" in kinds else words
    text = (", " if "commas" in kinds else " ").join(parts)
    return f'"{text}"' if "quotes" in kinds else text


def _verified(category: str, demands: Sequence[tuple[str, str]], text: str) -> bool:
    words, given = re.findall("[a-z]+", text), dict(demands)
    fits = bool(words) and len(set(words)) == len(words) and set(words) <= set(CATEGORIES[category])
    return (
        fits and text == _written(words, given) and all(MET[kind](words, given[kind]) for kind in MET if kind in given)
    )
