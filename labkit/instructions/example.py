"""One training or test example, whatever source drew it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """An instruction, what it is applied to, and the right answer.

    Attributes:
        instruction: what to do, in words.
        input: what to do it to; empty when the instruction says it all.
        output: the right answer.
        source: the room's name for where the example comes from, such as `rewriting`.
        instruction_id: equal for two examples exactly when they carry the same instruction; a study that
            holds instructions out for its test splits on it.
    """

    instruction: str
    input: str
    output: str
    source: str
    instruction_id: str
