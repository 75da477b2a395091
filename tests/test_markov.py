"""Markov algorithms: the textbook against Python, the semantics of a step, and refusals."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labkit.errors import BadRequest
from labkit.instructions import Rule, markov
from labkit.instructions.markov import (
    MarkovAlgorithm,
    Production,
    format_trace,
    load,
    parse,
    run,
)

FOLDER = Path(markov.__file__).with_name("textbook")
TEXTBOOK = {path.stem: load(path) for path in FOLDER.glob("*.markov")}
LOOP = parse("a -> a")
letters = st.text("ab", max_size=8)
numbers = st.integers(0, 9)


# The textbook


def test_the_textbook_is_complete() -> None:
    assert set(TEXTBOOK) == {
        "binary_to_unary",
        "doubling_palindrome",
        "reversal",
        "unary_addition",
        "unary_multiplication",
    }


@pytest.mark.parametrize("name", TEXTBOOK)
def test_the_example_in_the_header_is_true(name: str) -> None:
    algorithm, text = TEXTBOOK[name], (FOLDER / f"{name}.markov").read_text("utf-8")
    example = re.search(r"^# Example: (\S+) -> (\S+)$", text, re.MULTILINE)
    assert algorithm.name == name
    assert "# Source: " in text
    assert example
    assert run(algorithm, example[1]).output == example[2]


@given(letters)
def test_doubling_palindrome(text: str) -> None:
    assert run(TEXTBOOK["doubling_palindrome"], text).output == text + text[::-1]


@given(letters)
def test_reversal(text: str) -> None:
    assert run(TEXTBOOK["reversal"], text).output == text[::-1]


@given(st.lists(numbers, min_size=1, max_size=5))
def test_unary_addition(terms: list[int]) -> None:
    assert run(TEXTBOOK["unary_addition"], "+".join("1" * term for term in terms)).output == "1" * sum(terms)


@given(numbers, numbers)
def test_unary_multiplication(a: int, b: int) -> None:
    assert run(TEXTBOOK["unary_multiplication"], f"{'1' * a}*{'1' * b}").output == "1" * (a * b)


@given(st.integers(0, 40))
def test_binary_to_unary(number: int) -> None:
    assert run(TEXTBOOK["binary_to_unary"], f"{number:b}").output == "|" * number


# One step


@given(st.text("ab", min_size=1, max_size=3), st.text("ab", max_size=3), st.text("ab", max_size=20))
def test_one_step_of_one_rule_is_the_rewriting_task(pattern: str, replacement: str, text: str) -> None:
    algorithm = MarkovAlgorithm((Production(pattern, replacement, stop=True),))
    result = run(algorithm, text)
    assert result.output == Rule(pattern, replacement).apply(text)
    assert result.halted == ("stop" if pattern in text else "no rule applies")
    assert result.steps == int(pattern in text)


def test_the_first_rule_goes_before_the_leftmost_place() -> None:
    (step,) = run(parse("b ->. x\na ->. y"), "ab").trace
    assert (step.rule_number, step.position, step.after) == (1, 1, "ax")


def test_an_empty_left_side_matches_at_the_start() -> None:
    result = run(parse("->. x"), "ab")
    assert (result.output, result.halted) == ("xab", "stop")
    assert next(result.trace).position == 0


@given(letters, st.integers(0, 60))
def test_a_limited_run_is_the_start_of_the_whole_one(text: str, limit: int) -> None:
    whole = run(TEXTBOOK["doubling_palindrome"], text)
    part = run(TEXTBOOK["doubling_palindrome"], text, max_steps=limit, on_limit="return")
    strings = [text, *(step.after for step in whole.trace)]
    assert part.steps == min(limit, whole.steps)
    assert part.output == strings[part.steps]
    assert part.halted == ("limit" if limit < whole.steps else whole.halted)
    assert list(part.trace) == list(whole.trace)[: part.steps]


@given(letters)
def test_the_trace_leads_from_input_to_output(text: str) -> None:
    result = run(TEXTBOOK["reversal"], text)
    at = text
    for step in result.trace:
        end = step.position + len(step.production.pattern)
        assert step.before == at
        assert TEXTBOOK["reversal"].productions[step.rule_number - 1] == step.production
        assert step.after == at[: step.position] + step.production.replacement + at[end:]
        at = step.after
    assert at == result.output


def test_formatted_trace() -> None:
    assert list(format_trace(run(parse("ab -> ba\nb ->. c"), "aab"))) == [
        "    0  rule 1: ab -> ba  a[ab]",
        "    1  rule 1: ab -> ba  [ab]a",
        "    2  rule 2: b ->. c   [b]aa",
        "    3  stop              caa",
    ]
    assert list(format_trace(run(parse("a -> b"), "c"))) == ["    0  no rule applies  c"]


# Files


def test_syntax() -> None:
    algorithm = parse("# what it does\n#   Example\n\n ab->c # why\nx  ->.\ty\n a -> .b\n->\n # not part of the head")
    assert algorithm.productions == (
        Production("ab", "c"),
        Production("x", "y", stop=True),
        Production("a", ".b"),
        Production("", ""),
    )
    assert algorithm.name == "<text>"


sides = st.text("ab.>-|*", max_size=3).filter(lambda side: "->" not in side)


@given(st.lists(st.builds(Production, sides, sides, st.booleans()), min_size=1, max_size=5).map(tuple))
def test_an_algorithm_reads_what_it_writes(productions: tuple[Production, ...]) -> None:
    joined = [str(production) for production in productions]
    if any(line.count("->") > 1 or "-->" in line or "->>" in line for line in joined):
        return
    assert parse("\n".join(joined)).productions == productions


@pytest.mark.parametrize("line", ["ab", "a => b", "a -> b -> c", "a b -> c", "a -> b c", "."])
def test_a_bad_line_is_named_and_quoted(line: str) -> None:
    with pytest.raises(BadRequest) as error:
        parse(f"# head\na -> b\n{line}  # why", "rules.markov")
    assert str(error.value).startswith(f'rules.markov, line 3: "{line}')


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing but a comment"])
def test_a_file_without_rules(text: str) -> None:
    with pytest.raises(BadRequest, match=r"empty\.markov holds no rule"):
        parse(text, "empty.markov")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "binary.markov").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match=r"binary\.markov: it is not a text file"):
        load(tmp_path / "binary.markov")
    with pytest.raises(BadRequest, match=r"missing\.markov: No such file"):
        load(tmp_path / "missing.markov")
    with pytest.raises(BadRequest, match="directory"):
        load(tmp_path)


# Limits


def test_a_run_without_end() -> None:
    with pytest.raises(BadRequest, match="not over after 50 steps: raise max_steps"):
        run(LOOP, "a", max_steps=50)
    assert run(LOOP, "a", max_steps=50, on_limit="return").halted == "limit"
    assert run(LOOP, "b", max_steps=0).halted == "no rule applies"


def test_a_string_without_end() -> None:
    with pytest.raises(BadRequest, match="beyond 1,000,000 symbols"):
        run(parse(f"a -> {'a' * 100_000}"), "a")


def test_bad_limits() -> None:
    with pytest.raises(BadRequest, match="max_steps is -1"):
        run(LOOP, "a", max_steps=-1)
    with pytest.raises(BadRequest, match="unknown on_limit 'retrun': did you mean 'return'"):
        run(LOOP, "a", on_limit="retrun")  # type: ignore[arg-type]
