"""Where examples come from: instructions, and inputs with the right answer.

Every source carries its oracle, so that answers are computed and not stored. Nothing here knows of models.

    example     what every source draws
    rewriting   string rewriting, one rule per instruction: vectorised, with a plain interpreter beside it
    spaces      constrained spaces of rewriting rules: repeated, periodic, mirror
    markov      whole Markov algorithms, read from text files; a textbook of them comes along
    programs    random Markov programs of several rules, many run at once
    encrypted   rewriting whose result is encrypted
    equations   equational rules inside expression trees, judged up to algebra
    family      instruction families: what one is, and how tasks are drawn from it
    families    all of them by name: `list_families` work on what is given, `fact_families` draw a conclusion,
                `symbolic_families` take several steps, `ability_families` know, talk, and play a role
    steps       what these families are made of
    draws       how the values of an instruction are drawn, and read back from its wording
    lexicon     the words they are made of; like the parts of functions, they stand in a YAML file beside the module
    functions   small Python functions, told apart by what they return
    recognise   from the wording of an instruction back to the instruction
    corpora     real instruction data: named corpora and local files, as a stream
    files       the records of a file of any format, whole or named as broken
    shapes      which columns of a record, or turns of a conversation, make an example
    exams       closed and ranked questions of CMMLU, AGIEval and DoIT
    doit        DoIT's training data by ability and source, and its exams
"""

from labkit.instructions import encrypted, equations, programs  # noqa: I001
from labkit.instructions.corpora import CORPORA, read
from labkit.instructions.example import Example
from labkit.instructions.families import ABILITIES, EVERY, FAMILIES
from labkit.instructions.family import Family, Instruction, Task, draw, draw_instructions
from labkit.instructions.functions import FUNCTIONS
from labkit.instructions.recognise import Recognised, recognise
from labkit.instructions.rewriting import (
    Inputs, RewritingTask, Rule, Rules, decode, draw_example_plain, draw_inputs, draw_rules,
)  # fmt: skip
from labkit.instructions.spaces import KINDS, UNCONSTRAINED, Space, belongs_plain, divisors, draw_space_rules, mixture

__all__ = [
    "ABILITIES", "CORPORA", "EVERY", "FAMILIES", "FUNCTIONS", "KINDS", "UNCONSTRAINED", "Example", "Family", "Inputs",
    "Instruction", "Recognised", "RewritingTask", "Rule", "Rules", "Space", "Task", "belongs_plain", "decode",
    "divisors", "draw", "draw_example_plain", "draw_inputs", "draw_instructions", "draw_rules", "draw_space_rules",
    "encrypted", "equations", "mixture", "programs", "read", "recognise",
]  # fmt: skip
