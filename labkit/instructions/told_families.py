"""Two families in which something told is told again: in another language, or in fewer words.

    translation  a sentence of one toy language put into the other (exact match; near misses by chrF)
    summaries    of facts about people, so many words (any that are right)

*Translation.* A synchronous grammar (Lewis and Stearns 1968): every rule says how a phrase is said in both languages,
and one tree is read off twice. `lomi` has the verb between subject and object, adjectives before nouns, and a mark
after a plural; `tarska` has the verb last, adjectives after nouns, and a mark before a plural. Levels: nouns,
with adjectives, denied. A key is the sentence with its language, so that the test asks for sentences that no
training set holds, of words and rules that it does. Worked answers gloss word for word before they put in order.

*Summaries.* The request says how many words and of what: what somebody does (level 1), what two have in common
(level 2), what one does and another does not (level 3). The oracle takes any so many different things that are true;
the answer given is the first of them. Guaranteed: the facts hold that many.

Left open: training may hold a test sentence's translation, to be put back.
"""

from collections.abc import Iterator
from random import Random

from labkit.instructions.draws import Draw, Values, by_text
from labkit.instructions.family import Instruction
from labkit.instructions.lexicon import NAMES, THINGS, TOY
from labkit.instructions.steps import Kind, StepFamily, step_of

# Translation

LANGUAGES = ("lomi", "tarska")
SENTENCES = ("PLAIN", "FULL", "DENIED")  # by level
GRAMMAR: dict[str, tuple[tuple[str, ...], ...]] = {  # how each phrase is said in both; digits tell equal phrases apart
    "PLAIN": (("THING1 VERB THING2", "THING1 THING2 VERB"),),
    "FULL": (("FULLER1 VERB PHRASE2", "FULLER1 PHRASE2 VERB"), ("THING1 VERB FULLER2", "THING1 FULLER2 VERB")),
    "DENIED": (("PHRASE1 ne VERB PHRASE2", "PHRASE1 PHRASE2 VERB oz"),),
    "PHRASE": (("THING", "THING"), ("FULLER", "FULLER")),
    "FULLER": (("ADJECTIVE THING", "THING ADJECTIVE"),),
    "THING": (("NOUN", "NOUN"), ("NOUN mu", "ka NOUN")),
    **TOY,
}  # fmt: skip
WORDS = {one: other for pairs in (*TOY.values(), (("ne", "oz"), ("mu", "ka"))) for one, other in pairs}
GLOSSES = ({other: one for one, other in WORDS.items()}, WORDS)  # of each language's words, those of the other


def _derived(symbol: str, rng: Random) -> tuple[str, ...]:
    """Something said in both languages."""
    rule = rng.choice(GRAMMAR[symbol.rstrip("12")])
    parts = {name: _derived(name, rng) for name in rule[0].split() if name.isupper() or name[:-1].isupper()}
    return tuple(
        " ".join(parts[name][side] if name in parts else name for name in text.split())
        for side, text in enumerate(rule)
    )


def _read(symbol: str, words: list[str], into: int) -> Iterator[tuple[str, list[str]]]:
    """What the words begin with, said in the language number `into`, and the words after it."""
    for rule in GRAMMAR.get(symbol.rstrip("12"), ()):
        found: list[tuple[dict[str, str], list[str]]] = [({}, words)]
        for name in rule[1 - into].split():
            if name.rstrip("12") in GRAMMAR:
                found = [({**said, name: one}, rest) for said, left in found for one, rest in _read(name, left, into)]
            else:
                found = [(said, left[1:]) for said, left in found if left[:1] == [name]]
        for said, rest in found:
            yield " ".join(said.get(name, name) for name in rule[into].split()), rest


def translated(sentence: str, language: str, symbols: tuple[str, ...] = SENTENCES) -> str:
    """A sentence in a language, from the other one.

    Raises:
        ValueError: for what is no sentence of that, of these kinds.
    """
    for symbol in symbols:
        for text, rest in _read(symbol, sentence.split(), LANGUAGES.index(language)):
            if not rest:
                return text
    raise ValueError(sentence)


def _sentences(level: int) -> Kind:
    def draw(rng: Random, level: int) -> Values:
        into = rng.randrange(2)
        return LANGUAGES[into], _derived(SENTENCES[level - 1], rng)[1 - into]

    def complete(read: Values) -> Values | None:
        try:
            return read if translated(read[1], read[0], SENTENCES[level - 1 : level]) else None
        except ValueError:
            return None

    step = step_of(
        '[translate|render|put|turn] "{1}" [into|to] {0}', lambda _, into, sentence: translated(sentence, into),
        Draw(draw, (by_text(LANGUAGES), "[a-z]+(?: [a-z]+){2,8}"), complete),
        work=lambda _, into, sentence: [" ".join(map(GLOSSES[LANGUAGES.index(into)].__getitem__, sentence.split()))],
    )  # fmt: skip
    return Kind((level,), ((step,),), lambda rng, level, steps: "", str, str)


# Summaries: a fact is who, the verb, and what

LENGTHS = {"1 word": 1, "2 words": 2, "3 words": 3}
VERBS = ("like", "visit", "wear")  # of things without an article
OF = ("what {2} {1}s", "what {2} and {3} both {1}", "what {2} {1}s but {3} does not")  # by level


def _things(text: str, verb: str, *names: str) -> list[list[str]]:
    """What each of these does, in the order told."""
    facts = [fact.split() for fact in text.rstrip(".").split(". ")]
    return [[what for who, does, what in facts if (who, does) == (name, f"{verb}s")] for name in names]


def _summed_up(level: int, text: str, verb: str, *names: str) -> list[str]:
    """What may be said."""
    one, *others = _things(text, verb, *names)
    return [thing for thing in one if all((thing in other) == (level == 2) for other in others)]


class Summaries(StepFamily):
    """So many words of what is true, any of them."""

    def accepts(self, instruction: Instruction, text: str, answer: str) -> bool:
        """See `Family`: so many different things, each of which may be said."""
        number, ((_, (length, *about)),) = instruction.setting
        said = self.final(answer).split()
        return len(said) == len({*said}) == LENGTHS[length] and {*said} <= {*_summed_up(number + 1, text, *about)}


def _summary(level: int) -> Kind:
    people = 1 if level == 1 else 2
    lengths = list(LENGTHS)[: 4 - people]

    def told(rng: Random, level: int, steps: list[Values]) -> str:
        length, verb, *names = steps[0]
        n = LENGTHS[length]
        things = rng.sample(THINGS[verb], 6)
        right, others = things[:n], things[n:]
        pairs = [(name, thing) for name in (names if level == 2 else names[:1]) for thing in right]
        pairs += [(name, others[0]) for name in names[1:]] + [(names[0], others[0])] * (level == 3)
        stranger = rng.choice([name for name in NAMES if name not in names])
        pairs += [(names[0], others[1]), (stranger, others[2]), (stranger, right[0])][: 5 - len(pairs)]
        rng.shuffle(pairs)
        return ". ".join(f"{name} {verb}s {thing}" for name, thing in pairs) + "."

    def draw(rng: Random, level: int) -> Values:
        return rng.choice(lengths), rng.choice(VERBS), *rng.sample(NAMES, people)

    step = step_of(
        f"[answer|sum up|summarise|tell] in {{0}} {OF[level - 1]}",
        lambda text, length, *about: _first(_summed_up(level, text, *about), LENGTHS[length]),
        Draw(draw, (by_text(lengths), by_text(VERBS), *[by_text(NAMES)] * people)),
        work=lambda text, _, *about: [" ".join(one) for one in _things(text, *about)] if level > 1 else (),
    )  # fmt: skip
    return Kind((level,), ((step,),), told, str, str)


def _first(things: list[str], n: int) -> str:
    if len(things) < n:
        raise ValueError(n)
    return " ".join(things[:n])


FAMILIES = (
    StepFamily("translation", "editing", *map(_sentences, (1, 2, 3))),
    Summaries("summaries", "extraction", *map(_summary, (1, 2, 3))),
)
