"""Where examples come from: instructions, and inputs with the right answer.

Every source carries its oracle, so that answers are computed and not stored. Nothing here knows of models.

    example     what every source draws
    rewriting   string rewriting, one rule an instruction: vectorised, with a plain interpreter beside it
    markov      whole Markov algorithms, read from text files; a textbook of them comes along
"""

from labkit.instructions.example import Example
from labkit.instructions.rewriting import (
    Inputs,
    RewritingTask,
    Rule,
    Rules,
    decode,
    draw_example_plain,
    draw_inputs,
    draw_rules,
    encode,
    examples,
)

__all__ = [
    "Example",
    "Inputs",
    "RewritingTask",
    "Rule",
    "Rules",
    "decode",
    "draw_example_plain",
    "draw_inputs",
    "draw_rules",
    "encode",
    "examples",
]
