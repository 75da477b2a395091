"""All instruction families by name, each with its oracle, three levels and held-out keys.

`FAMILIES` are ten general ones, everyday requests:

    rewriting       a rule applied to a string         sorting         letters, words, numbers by many orders
    counting        what meets conditions              arithmetic      an operation with settled numbers, by digits
    dates           days, weekdays, formats            editing         words of a line moved, dropped, replaced
    reading         questions on a given passage       deduction       comparisons chained
    classification  labels that the request defines    formatting      marks, pairs, numbering

`EVERY` adds `labkit.instructions.functions`, `symbolic_families`, `ability_families`, `told_families`, and `speaking`,
which says again what stands in quotes and is all but known to who can copy. `ABILITIES` are the ten whose
growth is compared, from what little data may saturate to what may resist, as the abilities of arXiv 2310.19651 spread;
the order is a guess, for the study to test. `READABLE` adds `demands`, whose requests have many right answers.

An instruction is a few *steps* with settled values, each in several wordings; the key is its canonical text. Levels
differ in the number of steps and in the length of inputs.

Guaranteed: text is lower-case ASCII on one line (code and worked answers have more); strings of random letters hold no
vowel, and words always do, so that no string of the general families is ever mistaken for a word (`PIECE` splits text
into words, single letters, digits and marks); years have 365 days; sorting keeps ties in their order. Left open: two
keys of a family may ask for the same thing (dropping word 1 twice, dropping words 1 and 2); functions closes that for
code alone. Capital letters do not occur.
"""

from labkit.instructions import ability_families, fact_families, list_families, symbolic_families, told_families
from labkit.instructions.demands import DEMANDS
from labkit.instructions.family import Family
from labkit.instructions.functions import FUNCTIONS
from labkit.instructions.steps import StepFamily

_GENERAL = (*("rewriting", "sorting", "counting", "arithmetic", "dates", "editing"),
            *("reading", "deduction", "classification", "formatting"))  # fmt: skip
_SPREAD = (*("knowledge", "classification", "dialogue", "formatting", "role"),
           *("deduction", "arithmetic", "functions", "rewriting", "editing"))  # fmt: skip
_STEPS = {family.name: family for family in (*list_families.FAMILIES, *fact_families.FAMILIES)}
_NEW: tuple[Family, ...] = (FUNCTIONS, *symbolic_families.FAMILIES, *ability_families.FAMILIES, _STEPS["speaking"],
                          *told_families.FAMILIES)  # fmt: skip
FAMILIES: dict[str, StepFamily] = {name: _STEPS[name] for name in _GENERAL}
EVERY: dict[str, Family] = {**FAMILIES, **{family.name: family for family in _NEW}}
READABLE: dict[str, Family] = {**EVERY, DEMANDS.name: DEMANDS}
ABILITIES: dict[str, Family] = {name: EVERY[name] for name in _SPREAD}
