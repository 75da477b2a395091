"""Three abilities beside the general families: knowledge of a small world, dialogues, and roles.

    knowledge   which of four is right, in a world that the question does not tell (chance 1/4)
    dialogue    who wants what after a talk of two or three, in which others agree and minds change
    role        the reply of a person with one, two or three settled habits of speech

*Knowledge.* `WORLD` holds 120 facts, 6 relations of 20 people, the same in every split and for every seed. What is held
out is how a fact is asked; a key is a form with its relation and person or thing. The forms of level 1 are `which town
anna lives in`, `what comes after anna lives in` and `who lives in rome`, which tells the fact where the person is the
right option; level 2 asks two facts at once (`who lives in rome and sells soup`), level 3 two in a chain (`who lives in
the same town as anna`, `which food someone who lives in rome sells`). Guaranteed: training keys of level 1 tell every
fact, so that who has learned them all can answer any test question; of the four options one is right, at any place
alike; its letter is accepted as well as its words.

*Dialogue.* `me too` repeats what was said just before; whoever says another thing of the same verb has changed their
mind. Guaranteed: the talk settles the answer; nobody changes their mind below level 3, where somebody does; yes and no
are equally likely.

*Role.* The user says who they are, asks who the other is, or offers three things, of which the first is taken. Whoever
never speaks of foods refuses every offer with one. Guaranteed: an instruction's habits are of different sorts and in
one order, so that equal habits are equal keys; one of them bears on what the user says. Left open: the others may not.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import combinations
from random import Random
from typing import NamedTuple

from labkit.instructions.draws import Draw, Rule, Values, by_text
from labkit.instructions.family import Instruction
from labkit.instructions.lexicon import CATEGORIES, CRIES, NAMES, ORDINALS, ROLES, WORDINGS, WORDS, YES_NO
from labkit.instructions.steps import Fact, Kind, StepFamily, step_of

# Knowledge


class Relation(NamedTuple):
    """A verb that relates people to things, with the article that these take, and their kind."""

    verb: str
    article: str
    category: str

    @property
    def noun(self) -> str:
        return self.category[:-1]

    def says(self, thing: str) -> str:
        return f"{self.verb}{self.article} {thing}"


_RELATIONS = [("lives in", "", "towns"), ("sells", "", "foods"), ("travels by", "", "vehicles")]
_RELATIONS += [("keeps", " the", "animals"), ("carries", " the", "tools"), ("grows", " the", "plants")]
RELATIONS = {verb: Relation(verb, *others) for verb, *others in _RELATIONS}


def _world() -> dict[tuple[str, str], str]:
    """The thing of every person and verb; each thing is had by two or three."""
    rng, facts = Random("world"), dict[tuple[str, str], str]()
    for relation in RELATIONS.values():
        things = (CATEGORIES[relation.category] * 3)[: len(NAMES)]
        rng.shuffle(things)
        facts |= {(name, relation.verb): thing for name, thing in zip(NAMES, things, strict=True)}
    return facts


WORLD: dict[tuple[str, str], str] = _world()
HAVING: dict[str, list[str]] = {  # who does what is said, such as "keeps the cat"
    relation.says(thing): [name for name in NAMES if WORLD[name, verb] == thing]
    for verb, relation in RELATIONS.items()
    for thing in CATEGORIES[relation.category]
}


def _shown(text: str) -> tuple[str, ...]:
    """The options of `a rome, b oslo, c lima, d cairo`."""
    return tuple(one.partition(" ")[2] for one in text.split(", "))


def _one_of(values: Sequence[Values]) -> Draw:
    """Draws one of the given tuples of values."""
    known, domains = set(values), tuple(map(by_text, zip(*values, strict=True)))
    return Draw(lambda rng, level: rng.choice(values), domains, lambda read: read if read in known else None)


def _four(level: int, text: str, values: Sequence[Values], right: Callable[..., list[str]],
          near: Callable[..., list[str]] = lambda *_: [],
          work: Callable[..., list[str]] = lambda *_: []) -> Kind:  # fmt: skip
    """Questions of one form, with their values; `right` gives what is right, `near` what is half so."""

    def options(rng: Random, level: int, steps: list[Values]) -> str:
        rights = right(*steps[0])
        alike = next(some for some in (NAMES, *CATEGORIES.values()) if rights[0] in some)
        wrong = [one for one in alike if one not in rights and one not in steps[0]]
        wrong = rng.sample(near(*steps[0]), len(near(*steps[0]))) + rng.sample(wrong, len(wrong))
        shown = [rng.choice(rights), *list(dict.fromkeys(wrong))[:3]]
        rng.shuffle(shown)
        return ", ".join(map(" ".join, zip("abcd", shown, strict=True)))

    step = step_of(f"[tell|say|find|name] {text}",
                   lambda shown, *drawn: next(one for one in _shown(shown) if one in right(*drawn)), _one_of(values),
                   work=lambda shown, *drawn: work(_shown(shown), *drawn),
                   options=lambda shown, *_: _shown(shown))  # fmt: skip
    return Kind((level,), ((step,),), options, str, str)


def _same(verb: str, noun: str, name: str) -> list[str]:
    return [one for one in NAMES if one != name and WORLD[one, verb] == WORLD[name, verb]]


_EACH = [(relation, name) for relation in RELATIONS.values() for name in NAMES]
_PAIRS = {
    (one.says(WORLD[name, one.verb]), other.says(WORLD[name, other.verb])): None
    for name in NAMES
    for one, other in combinations(RELATIONS.values(), 2)
}
# fmt: off
_KNOWLEDGE = (
    _four(1, "which {0} {1} {2}", [(relation.noun, name, relation.verb) for relation, name in _EACH],
          lambda noun, name, verb: [WORLD[name, verb]]),
    _four(1, "what comes after {0} {1}", [(name, relation.verb + relation.article) for relation, name in _EACH],
          lambda name, verb: [WORLD[name, verb.removesuffix(" the")]]),
    _four(1, "who {0}", [(said,) for said in HAVING], lambda said: HAVING[said]),
    _four(2, "who {0} and {1}", list(_PAIRS),
          lambda one, other: [name for name in HAVING[one] if name in HAVING[other]],
          lambda one, other: [name for name in NAMES if (name in HAVING[one]) != (name in HAVING[other])],
          lambda shown, one, _: [" ".join(name for name in shown if name in HAVING[one])]),
    _four(3, "who {0} the same {1} as {2}", [(relation.verb, relation.noun, name) for relation, name in _EACH],
          _same, work=lambda shown, verb, _, name: [WORLD[name, verb]]),
    _four(3, "which {0} someone who {1} {2}",
          [(of.noun, said, of.verb) for said in HAVING for of in RELATIONS.values() if not said.startswith(of.verb)],
          lambda noun, said, verb: [WORLD[name, verb] for name in HAVING[said]],
          work=lambda shown, _, said, verb: [next(name for name in HAVING[said] if WORLD[name, verb] in shown)]),
)
# fmt: on


class Knowledge(StepFamily):
    """Closed questions on `WORLD`; the letter of an option counts as the option."""

    def accepts(self, instruction: Instruction, text: str, answer: str) -> bool:
        """See `Family`: the option, its letter, or both."""
        right, final = self.answer(instruction, text), self.final(answer)
        letter = "abcd"[_shown(text).index(right)]
        return final in (right, letter, f"{letter} {right}")


# Dialogue: `anna: i want rice. ben: me too.`; a fact is who, the verb, and what

WISHES = {"want": "foods", "cook": "foods", "choose": "colours", "love": "towns"}


@lru_cache(maxsize=2**10)
def _talk(text: str) -> tuple[Fact, ...]:
    """Who says to do what, in order."""
    told = list[Fact]()
    for part in text.rstrip(".").split(". "):
        who, _, said = part.partition(": ")
        *_, verb, what = said.split()
        told.append((who, *told[-1][1:]) if said == "me too" else (who, verb, what))
    return tuple(told)


def _wishes(text: str, who: str, verb: str) -> list[str]:
    """What someone said of a verb, one after the other."""
    return [what for name, did, what in _talk(text) if (name, did) == (who, verb)]


def _speakers(text: str, *but: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(who for who, _, _ in _talk(text) if who not in but))


def _changes(text: str, who: str) -> bool:
    return any(len(_wishes(text, who, verb)) > 1 for verb in WISHES)


def _who_wants(text: str, verb: str, what: str) -> list[str]:
    return [who for who in _speakers(text) if _wishes(text, who, verb)[-1:] == [what]]


def _who_agrees(text: str, verb: str, name: str) -> list[str]:
    mine = _wishes(text, name, verb)
    return [who for who in _speakers(text, name) if mine and _wishes(text, who, verb)[-1:] == mine[-1:]]


def _yes(*true: bool) -> list[str]:
    return [YES_NO[not one] for one in true]


def _any_talk(rng: Random, level: int, asked: Values) -> str:
    """What two or three people say, those asked for among them, of two verbs and two things each."""
    names = [one for one in asked if one in NAMES]
    names += rng.sample([name for name in NAMES if name not in names], (2 if level == 1 else 3) - len(names))
    rng.shuffle(names)
    verb = next((one for one in asked if one in WISHES), None) or rng.choice(list(WISHES))
    verbs = [verb, verb, verb, rng.choice(list(WISHES))]
    things = {one: rng.sample(CATEGORIES[WISHES[one]], 2) for one in verbs}
    things[verb][:1] = [one for one in asked if one in CATEGORIES[WISHES[verb]]] or things[verb][:1]
    text = ""
    for who in [*names, *rng.choices(names, k=rng.randint(level > 2, 1))]:
        if text and level > 1 and rng.random() < 0.4:
            said = "me too"
        else:
            did = rng.choice(verbs)
            said = f"{'now ' if text and _wishes(text, who, did) else ''}i {did} {rng.choice(things[did])}"
        text = f"{text} {who}: {said}.".strip()
    return text


def _coherent(text: str, level: int) -> bool:
    """Nobody says a thing twice, or changes their mind below level 3, where somebody does."""
    told = _talk(text)
    return len(set(told)) == len(told) and any(_changes(text, who) for who in _speakers(text)) == (level == 3)


def _question(level: int, form: str, values: Sequence[Values], found: Callable[..., Sequence[str]],
              options: Callable[..., tuple[str, ...]] = lambda *_: YES_NO,
              work: Callable[..., list[str]] = lambda *_: []) -> Kind:  # fmt: skip
    """Questions of one form, with their values; `found` gives all that may be answered."""

    def talk(rng: Random, level: int, steps: list[Values]) -> str:
        wanted = rng.choice(YES_NO)
        while True:
            text = _any_talk(rng, level, steps[0])
            answers = found(text, *steps[0]) if _coherent(text, level) else ()
            if len(answers) == 1 and (answers[0] == wanted or answers[0] not in YES_NO):
                return text

    wording = WORDINGS["dialogue"][form]
    step = step_of(wording, lambda *given: found(*given)[0], _one_of(values), work=work, options=options)
    return Kind((level,), ((step,),), talk, str, str)


_BY_NAME = [(verb, name) for verb in WISHES for name in NAMES]
_BY_THING = [(verb, thing) for verb, category in WISHES.items() for thing in CATEGORIES[category]]
# fmt: off
_DIALOGUE = (
    _question(
        1, "whether", [(*one, name) for one in _BY_THING for name in NAMES],
        lambda text, verb, what, name: _yes(*([what] == ends for ends in [_wishes(text, name, verb)] if ends))),
    _question(1, "who", _BY_THING, _who_wants, lambda text, *_: _speakers(text)),
    _question(
        2, "who the same", _BY_NAME, _who_agrees, lambda text, verb, name: _speakers(text, name),
        lambda text, verb, name: _wishes(text, name, verb)),
    _question(
        2, "whether the same", [(verb, one, other) for verb, one in _BY_NAME for other in NAMES if one != other],
        lambda text, verb, one, other: _yes(
            *(a == b for a in _wishes(text, one, verb)[-1:] for b in _wishes(text, other, verb)[-1:])),
        work=lambda text, verb, one, other: [" ".join(_wishes(text, one, verb) + _wishes(text, other, verb))]),
    *(_question(
        3, form, _BY_NAME,
        lambda text, verb, name, which=which: _wishes(text, name, verb)[which] if _changes(text, name) else [],
        lambda *_: (), lambda text, verb, name: [" ".join(_wishes(text, name, verb))])
      for form, which in (("what in the end", slice(-1, None)), ("what at first", slice(1)))),
    _question(3, "who in the end", _BY_THING, _who_wants, lambda text, *_: _speakers(text)),
    _question(3, "whether changed", [(name,) for name in NAMES], lambda text, name: _yes(_changes(text, name))),
)
# fmt: on


# Role

_NEVER, _TAKES, _GREETS = "never speaks of {}", "takes the {} offer", "greets with {}"
_CALLED, _STARTS, _ENDS = "says {} for i", "starts with {}", "ends with {}"
HABITS: dict[str, Sequence[str]] = {_NEVER: list(CATEGORIES), _TAKES: ORDINALS[1:3], _GREETS: CRIES, _CALLED: NAMES,
                                    _STARTS: CRIES, _ENDS: CRIES}  # fmt: skip


def _habits(rng: Random, n: int) -> Values:
    chosen = rng.sample(list(HABITS), n)
    return tuple(Rule(name, rng.choice(values)) for name, values in HABITS.items() if name in chosen)


def _reply(text: str, role: str, *habits: Rule) -> str:
    """What a person with these habits says to `i am anna`, `who are you`, or `rice, axe or boot`."""
    has = {habit.name: habit.value for habit in habits}
    me = has.get(_CALLED)
    offers = text.replace(" or ", ", ").split(", ")
    if text.startswith("i am "):
        said = f"{has.get(_GREETS, 'hello')} {text.removeprefix('i am ')}"
    elif text == "who are you":
        said = f"{f'{me} is' if me else 'i am'} a {role}"
    elif any(offer in CATEGORIES.get(has.get(_NEVER, ""), ()) for offer in offers):
        said = f"{f'{me} does' if me else 'i do'} not speak of {has[_NEVER]}"
    else:
        said = f"{f'{me} takes' if me else 'i take'} {offers[ORDINALS.index(has.get(_TAKES, ORDINALS[0]))]}"
    return " ".join(part for part in (has.get(_STARTS), said, has.get(_ENDS)) if part)


def _user(rng: Random, level: int, steps: list[Values]) -> str:
    """Something that one of the habits bears on."""
    _, *habits = steps[0]
    habit = rng.choice(habits)
    greeting = rng.random() < {_GREETS: 1, _NEVER: 0, _TAKES: 0, _CALLED: 0}.get(habit.name, 0.3)
    if greeting:
        return f"i am {rng.choice(NAMES)}"
    if habit.name not in (_NEVER, _TAKES) and rng.random() < 0.3:
        return "who are you"
    offers = rng.sample(WORDS, 3)
    if habit.name == _NEVER and rng.random() < 0.6:
        offers[rng.randrange(3)] = rng.choice([one for one in CATEGORIES[habit.value] if one not in offers])
    return f"{offers[0]}, {offers[1]} or {offers[2]}"


def _playing(n: int) -> Kind:
    """Roles of n habits."""
    said = ("", "{1}", "{1} and {2}", "{1}, {2} and {3}")[n]
    sorts = list(HABITS)

    def complete(read: Values) -> Values | None:
        places = [sorts.index(habit.name) for habit in read[1:]]
        return read if places == sorted(set(places)) else None

    habits = by_text(Rule(name, value) for name, values in HABITS.items() for value in values)
    step = step_of(
        f"[be|play|act as|speak as] a {{0}} who {said}",
        _reply,
        Draw(lambda rng, level: (rng.choice(ROLES), *_habits(rng, n)), (by_text(ROLES), *[habits] * n), complete),
        work=lambda text, role, *habits: [_reply(text, role, *habits[:k]) for k in range(1, n)],
    )
    return Kind((n,), ((step,),), _user, str, str)


FAMILIES = (Knowledge("knowledge", "knowledge", *_KNOWLEDGE), StepFamily("dialogue", "dialogue", *_DIALOGUE),
            StepFamily("role", "role-play", *(_playing(n) for n in (1, 2, 3))))  # fmt: skip
