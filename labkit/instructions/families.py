"""General instruction families: everyday requests of ten kinds, each with its oracle, three levels and held-out keys.

    rewriting       a rule applied to a string         sorting         letters, words, numbers by many orders
    counting        what meets conditions              arithmetic      an operation with settled numbers, by digits
    dates           days, weekdays, formats            editing         words of a line moved, dropped, replaced
    reading         questions on a given passage       deduction       comparisons chained
    classification  labels that the request defines    formatting      marks, pairs, numbering

An instruction is a few *steps* with settled values, each in several wordings; the key is its canonical text. Levels
differ in the number of steps and in the length of inputs.

Guaranteed: text is lower-case ASCII on one line; strings of random letters hold no vowel, and words always do, so that
no string is ever mistaken for a word (`PIECE` splits text into words, single letters, digits and marks); years have
365 days; sorting keeps ties in their order. Left open: two keys of a family may ask for the same thing (dropping word
1 twice, dropping words 1 and 2); functions closes that for code alone. Capital letters do not occur.
"""

from labkit.instructions import fact_families, list_families
from labkit.instructions.steps import StepFamily

ORDER = (
    *("rewriting", "sorting", "counting", "arithmetic", "dates", "editing"),
    *("reading", "deduction", "classification", "formatting"),
)
_BY_NAME = {family.name: family for family in (*list_families.FAMILIES, *fact_families.FAMILIES)}
FAMILIES: dict[str, StepFamily] = {name: _BY_NAME[name] for name in ORDER}
