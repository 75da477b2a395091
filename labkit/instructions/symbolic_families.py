"""Symbolic work of several steps, told in words: rewriting whose result is encrypted, and Markov programs.

    encrypted   one or two rewriting steps (those of the family `rewriting`), then Caesar's cipher: every letter of the
                whole result moves some places on in the alphabet, z is followed by a
    programs    two or three ordered rules; the first that applies rewrites its leftmost place, until none applies

`Family.worked` shows the text after every step and every application of a rule. The levels of `encrypted` are one
letter rewritten, two letters, two rules; those of `programs` are the applications from the input to the halt: 1, 2, 3.

Guaranteed: a drawn program halts on every text, because each of its rules writes letters that come later than those it
reads in some order of the letters; its answer is what `labkit.instructions.markov.run` leaves; encryption is
`labkit.instructions.encrypted.encrypt_plain`. Left open: an encrypted text may hold vowels, and so look like a word;
how often the order of the rules decides an answer is not prescribed (`labkit.instructions.programs` prescribes it).
"""

import re
from functools import lru_cache
from random import Random

from labkit.instructions.draws import Draw, Values
from labkit.instructions.encrypted import encrypt_plain
from labkit.instructions.lexicon import CONSONANTS, LETTERS
from labkit.instructions.list_families import planted, rewrite
from labkit.instructions.markov import MarkovAlgorithm, parse, run
from labkit.instructions.steps import Kind, Step, StepFamily, step_of

CAESAR = step_of("[encrypt with shift {0}|shift letters by {0}|move letters on by {0}|use caesar shift {0}]",
                 lambda text, shift: encrypt_plain(text, shift, LETTERS), range(1, 10))  # fmt: skip


def _encrypted(level: int, *steps: Step) -> Kind:
    pools = (*((step,) for step in steps), (CAESAR,))
    return Kind((level,), pools, lambda rng, level, values: planted(rng, 1, values[:-1]), str, str)


# Programs

_SIDES = ((1, 1), (1, 2), (2, 1))  # letters of x and y
_RULE = f"[{CONSONANTS}]{{1,2}} -> [{CONSONANTS}]{{1,2}}"


def _rules(n: int) -> Draw:
    """Rules of a chain, each of which reads a letter that the one before wrote; in any order."""

    def draw(rng: Random, level: int) -> str:
        while True:
            letters = rng.sample(CONSONANTS, 8)
            rules, y = list[str](), rng.choice(letters[:2])
            for number in range(n):
                low, high = rng.choice(_SIDES)
                link = rng.choice(y)
                later = letters[2 * number + 2 :]
                x = link if low == 1 else "".join(rng.sample([link, rng.choice(letters[: 2 * number + 1])], 2))
                y = "".join(rng.choices(later[:2], k=high))
                rules.append(f"{x} -> {y}")
            rng.shuffle(rules)
            if _allowed(text := ", ".join(rules)):
                return text

    return Draw(draw, (_RULE + f"(?:, {_RULE}){{{n - 1}}}",), lambda values: values if _allowed(values[0]) else None)


@lru_cache(maxsize=2**12)
def _program(rules: str) -> MarkovAlgorithm:
    return parse(rules.replace(", ", "\n"))


def _allowed(rules: str) -> bool:
    """Does a program halt on every text, and does none of its left sides hold another?"""
    sides = [(one.pattern, one.replacement) for one in _program(rules).productions]
    after = {a: {b for x, y in sides if a in x for b in y} for x, _ in sides for a in x}
    for _ in sides:
        after = {a: some.union(*(after.get(b, ()) for b in some)) for a, some in after.items()}
    held = sum(other in x for x, _ in sides for other, _ in sides)
    return held == len(sides) and all(a not in some for a, some in after.items())


def _strings(text: str, rules: str) -> list[str]:
    """The text after every application of a rule."""
    return [step.after for step in run(_program(rules), text).trace]


def _to_halt(rng: Random, level: int, steps: list[Values]) -> str:
    """A text that the program rewrites `level` times: left sides among letters that no rule has."""
    (rules,) = steps[0]
    others = [letter for letter in CONSONANTS if letter not in rules]
    patterns = re.findall(r"(\w+) ->", rules)
    while True:
        parts = rng.choices(patterns, k=rng.randint(1, level)) + rng.choices(others, k=rng.choice((1, 2, 2, 3)))
        parts += [rng.choice(re.findall(r"\w", rules))] if rng.random() < 0.5 else []
        rng.shuffle(parts)
        text = "".join(parts)
        if len(_strings(text, rules)) == level:
            return text


def _programs(level: int, n: int) -> Kind:
    step = step_of("[apply|run|use|follow] the rules {0}, first rule first, until none applies",
                   lambda text, rules: run(_program(rules), text).output, _rules(n),
                   work=lambda text, rules: _strings(text, rules)[:-1])  # fmt: skip
    return Kind((level,), ((step,),), _to_halt, str, str)


# fmt: off
FAMILIES = (
    StepFamily(
        "encrypted", "reasoning",
        _encrypted(1, rewrite(1, 1)), _encrypted(2, rewrite(2, 2)), _encrypted(3, rewrite(1, 1), rewrite(1, 1))),
    StepFamily("programs", "reasoning", _programs(1, 2), _programs(2, 2), _programs(3, 3)),
)
# fmt: on
