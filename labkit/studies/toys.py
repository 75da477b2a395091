"""Toy cases for notebooks: the idea of a study on a few small examples, drawn from its parameters."""

from typing import Any, Literal

import numpy as np

from labkit.instructions import decode, draw_inputs, draw_rules
from labkit.instructions.encrypted import draw_encrypted, encrypted_examples
from labkit.instructions.equations import Equation, draw_equations, generator, infix
from labkit.instructions.programs import draw_programs, draw_runs
from labkit.instructions.spaces import KINDS, divisors, draw_space_rules, mixture
from labkit.studies import abstraction, encrypted_rewriting, input_variety, markov_programs, rewriting

Lines = list[dict[str, Any]]


def varied_inputs(params: Any) -> Lines:
    """Input variety: one rule, and three inputs of each kind."""
    lines = []
    for occurrences in params.variety:
        task = rewriting.task_of(params, occurrences)
        rules = draw_rules(task, 1, seed=0)
        drawn = draw_inputs(task, rules, np.zeros(3, np.int64), seed=0)
        texts = ", ".join(decode(z, task.alphabet) for z in drawn.z)
        lines.append({"x occurs": input_variety.named(occurrences), "rule": str(rules.rule(0)), "inputs": texts})
    return lines


def constrained_rules(params: Any) -> Lines:
    """Semantic diversity: a rule of each space of all classes, at the first range of k."""
    spaces = mixture(KINDS, divisors(params.pattern_length, *params.k_ranges[0]))
    drawn = draw_space_rules(rewriting.task_of(params), spaces, len(spaces), seed=0)
    return [{"space": str(spaces[n]), "one of its rules": str(drawn.rules.rule(i))} for i, n in enumerate(drawn.of)]


def equations(params: Any) -> Lines:
    """Abstraction: the kinds of rules, how many there are, and two of each."""
    kinds: dict[str, tuple[str, Literal["train", "test"]]] = {
        "diversifying, training": ("train", "train"), "diversifying, unseen": ("unseen", "test"),
        "special, training": ("special", "train"), "special, unseen": ("special", "test"),
        "special and deeper, unseen": ("deeper", "test"),
    }  # fmt: skip
    lines = []
    for words, (name, split) in kinds.items():
        rules = abstraction.rule_class(params, params.seeds[0], name, split)
        first = "; ".join(f"{infix(rule.lhs)} = {infix(rule.rhs)}" for rule in draw_equations(rules, 2))
        lines.append({"rules": words, "how many": rules.capacity, "such as": first})
    return lines


def applied_equations(params: Any) -> list[tuple[Equation, str, str]]:
    """Abstraction: unseen rules, each with an expression and its answer."""
    task, rng = abstraction.input_task(params), generator(0)
    rules = draw_equations(abstraction.rule_class(params, params.seeds[0], "unseen"), 5)
    return [(rule, *task.draw(rule, rng)) for rule in rules]


def program_runs(params: Any) -> Lines:
    """Markov programs: at each setting the shares of the hard kinds of runs, and how long runs are."""
    lines = []
    for rules, steps in dict.fromkeys((cell.rules, cell.run_steps) for cell in markov_programs.points(params)):
        task = markov_programs.task_of(params, rules, steps)
        runs = draw_runs(task, draw_programs(task, 100, seed=0), np.arange(2000) % 100, seed=0)
        means = {"order decides": runs.ordered, "rewritten": runs.rewritten, "mean steps": runs.steps}
        numbers = {name: round(float(values.mean()), 3) for name, values in means.items()}
        lines.append({"setting": markov_programs.setting(rules, steps)} | numbers)
    return lines


def encrypted(params: Any) -> Lines:
    """Encrypted rewriting: what is asked, what a base that rewrites rightly answers, and what it has to learn."""
    task, index = encrypted_rewriting.task_of(params), np.array([0, 0, 1, 1])
    rules = draw_rules(task.rewriting, 2, seed=1)
    drawn = draw_encrypted(task, rules, index, seed=1)
    words = params.model != encrypted_rewriting.OWN_BASE
    asked = list(encrypted_examples(task, rules, drawn, words=words))
    plain = [rules.rule(i).apply(example.input) for i, example in zip(index.tolist(), asked, strict=True)]
    return [
        {"instruction": example.instruction, "input": example.input, "the base says": old, "to learn": example.output}
        for example, old in zip(asked, plain, strict=True)
    ]
