"""A mixture's file is read as people read it, and whatever is none is refused in one sentence."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.design import plain_yaml
from labkit.design.mixture import Mixture, compose, mix

GOOD = "sources:\n- {path: a.jsonl, weight: 1}\nexamples: 5\n"
ONE = "- {path: a.jsonl, weight: 1}\n"
BUDGET = "sources: [{path: a.jsonl, weight: 1}]\n"


def bomb(merge: str) -> str:
    """Nine anchors, each of nine of the one before: 9^9 parts, as values or as merged keys."""
    first = "a0: &a0 {k: v}\n"
    return first + "".join(f"a{i}: &a{i} {merge.format(', '.join([f'*a{i - 1}'] * 9))}\n" for i in range(1, 10))


REFUSED = {
    "missing": (None, "does not exist"),
    "empty": ("", "is no mapping"),
    "a list": ("- 1", "is no mapping"),
    "a text": ("mix", "is no mapping"),
    "not UTF-8": (b"sources: \xff", "cannot be read"),
    "UTF-16": (GOOD.encode("utf-16"), "cannot be read"),
    "zeros": (b"\0" * 99, "cannot be read"),
    "gzip": (b"\x1f\x8b\x08" + bytes(range(40)), "cannot be read"),
    "huge": (b"# " + b"x" * plain_yaml.LONGEST, "more than 1,048,576 bytes"),
    "tabs": ("sources:\n\t- 1", "cannot be read"),
    "two documents": (f"{GOOD}---\n{GOOD}", "cannot be read"),
    "deep lists": ("sources: " + "[" * 900, "nested too deep"),
    "deep mappings": ("sources: " + "{a: " * 20_000, "nested too deep"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(1_200)), "nested too deep"),
    "itself": ("sources: &a [*a]\nexamples: 5", "sources.0"),
    "itself merged": ("sources: &a {<<: *a}\nexamples: 5", "nested too deep|cannot be read|sources"),
    "a bomb": (bomb("[{}]") + "sources: *a9\nexamples: 5", "unknown field"),
    "a bomb as a value": ("sources:\n- " + bomb("[{}]").replace("\n", "\n  ") + "\nexamples: 5", "sources.0"),
    "a merged bomb": (bomb("{{<<: [{}]}}") + GOOD, "unknown field"),
    "a bomb as a key": (bomb("[{}]") + "? *a9\n: 1\n", "cannot be read"),
    "a key twice": (GOOD + "examples: 6\n", "'examples' is given twice"),
    "a key twice inside": (GOOD.replace("}", ", weight: 1}"), "'weight' is given twice"),
    "a key twice, quoted": (GOOD + '"examples": 5\n', "'examples' is given twice"),
    "no anchor": ("sources: *a", "undefined alias"),
    "an object": ("sources: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    "a wrong tag": ("sources: !!bool x", "cannot be read"),
    "a wrong date": (GOOD + "n: 2026-99-99", "cannot be read"),
    "a date too late": (GOOD + "n: 9999-12-31T23:59:59-23:00", "n = |cannot be read"),
    "a number of many digits": (f"{BUDGET}examples: {'9' * 5000}", "cannot be read"),
    "a weight of many digits": (GOOD.replace("weight: 1", f"weight: 1{'0' * 400}"), "weight"),
    "a long key": (GOOD + "x" * 900 + ": 1", "unknown field"),
    "a key of two lines": (GOOD + '"x\\ny": 1', "unknown field"),
    "a key that is no text": (GOOD + "7: 1", "unknown field"),
    "a long value": (GOOD.replace("a.jsonl, w", "{" + "x" * 9000 + ": 1}, w"), "path"),
    "weight yes": (GOOD.replace("weight: 1", "weight: yes"), "weight = True: .*a number is wanted"),
    "weight octal": (GOOD.replace("weight: 1", "weight: 010"), "weight = '010': .*a number is wanted"),
    "weight hexadecimal": (GOOD.replace("weight: 1", "weight: 0x1"), "a number is wanted"),
    "weight in minutes": (GOOD.replace("weight: 1", "weight: 0:01"), "a number is wanted"),
    "weight null": (GOOD.replace("weight: 1", "weight:"), "weight = None"),
    "weight nan": (GOOD.replace("weight: 1", "weight: .nan"), "weight = nan"),
    "weight infinite": (GOOD.replace("weight: 1", "weight: 1e999"), "weight = '1e999'"),
    "weight zero": (GOOD.replace("weight: 1", "weight: 0"), "weight = 0"),
    "weight a list": (GOOD.replace("weight: 1", "weight: [1]"), "weight"),
    "budget yes": (f"{BUDGET}examples: on", "examples = True"),
    "budget octal": (f"{BUDGET}examples: 010", "examples = '010'"),
    "budget in minutes": (f"{BUDGET}tokens: 1:30", "tokens = '1:30'"),
    "budget binary": (f"{BUDGET}tokens: 0b11", "tokens = '0b11'"),
    "budget in powers": (f"{BUDGET}examples: 1e3", "examples = '1e3': .*integer"),
    "budget a float": (f"{BUDGET}examples: 1000.0", "examples = 1000.0: .*integer"),
    "budget below one": (f"{BUDGET}examples: -0", "examples = 0"),
    "column no": (GOOD.replace("}", ", fields: {instruction: no, output: b}}"), "fields.instruction"),
    "path a number": (GOOD.replace("a.jsonl", "7"), "path = 7"),
    "path a date": (GOOD.replace("a.jsonl", "2026-01-01"), "path"),
    "path too long": (GOOD.replace("a.jsonl", "x" * 5000), "does not exist"),
    "path with a zero": (GOOD.replace("a.jsonl", '"a\\0"'), "does not exist|unknown corpus"),
    "tests not a list": (GOOD + "decontaminate: t.jsonl", "decontaminate"),
    "tests too long a path": (GOOD + f"decontaminate: [{'x' * 5000}.jsonl]", "name too long"),
    "half a letter": (GOOD.replace("a.jsonl", '"\\ud800.jsonl"'), "cannot be read"),
    "unknown key inside": (GOOD.replace("weight", "wieght"), "wieght|weight"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mixture_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    text, says = REFUSED[name]
    (tmp_path / "a.jsonl").write_text('{"instruction": "i", "output": "o"}\n')
    if text is not None:
        (tmp_path / "s.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BadRequest, match=says) as refusal:
        mix(tmp_path / "s.yaml", tmp_path / "out")
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert len(sentence) < 600 or "too long" in says
    assert not (tmp_path / "out").exists()


def test_what_is_no_regular_file_is_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    for path in ("/dev/zero", "/dev/null", tmp_path, tmp_path / "pipe", tmp_path / "loop", tmp_path / ("x" * 300)):
        with pytest.raises(BadRequest, match=r"is no file|does not exist|cannot be read") as refusal:
            Mixture.load(path)
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0), ("7", 7), ("-3", -3), ("+4", 4), ("1_000", 1000), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0),
        ("1e-1", "1e-1"), ("1.5E+2", 150.0), ("-.inf", float("-inf")), ("true", True), ("no", False), ("~", None),
        ("010", "010"), ("0o10", "0o10"), ("0x1F", "0x1F"), ("0b11", "0b11"), ("1:30", "1:30"), ("1:30.5", "1:30.5"),
        ("1.2.3", "1.2.3"), ("12e", "12e"), ("'5'", "5"),
    ],
)  # fmt: skip
def test_numbers_are_what_they_look_like(text: str, value: Any, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"a: {text}")
    assert repr(plain_yaml.load(tmp_path / "s.yaml")) == repr({"a": value})


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=40, deadline=None)
@given(plain)
def test_what_yaml_writes_is_read_as_ever(value: Any) -> None:
    """Also by this reader, which knows fewer numbers."""
    text = yaml.safe_dump(value, allow_unicode=True)
    assert yaml.load(text, plain_yaml.Loader) == yaml.safe_load(text)


def test_letters_that_json_writes_as_two_escapes_are_one() -> None:
    assert yaml.load(json.dumps("a 🙂 b"), plain_yaml.Loader) == "a 🙂 b"


def test_anchors_and_merges_work(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(
        "sources:\n- &s {path: a.jsonl, weight: 0.5, on_bad: skip}\n- {<<: *s, path: b.jsonl}\n- {path: c, <<: [*s]}\n"
        "examples: 5\nnormalise: true\n"
    )
    sources = Mixture.load(tmp_path / "s.yaml").sources
    assert [(one.path, one.weight, one.on_bad) for one in sources] == [
        ("a.jsonl", 0.5, "skip"),
        ("b.jsonl", 0.5, "skip"),
        ("c", 0.5, "skip"),
    ]


@pytest.mark.parametrize("weight", ["1", "1.0", "10e-1", "'1'", '"1.0"', ".1e+1", "1.", "1E0"])
def test_weights_are_numbers(weight: str, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("weight: 1", f"weight: {weight}").encode())
    assert Mixture.load(tmp_path / "s.yaml").sources[0].weight == 1


@pytest.mark.parametrize("unit", ["examples", "tokens"])
def test_repeats_are_bounded_and_other_budgets_are_not(unit: str, tmp_path: Path) -> None:
    lines = [json.dumps({"instruction": f"say {i}", "output": "o"}) for i in range(40)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))

    def asked(rule: str, budget: int) -> Mixture:
        sources = [{"path": "a.jsonl", "weight": 1}]
        return Mixture.model_validate({"sources": sources, unit: budget, "when_exhausted": rule})

    for budget in (10**9, 10**30, 10**300):
        with pytest.raises(BadRequest, match="would repeat the 40 examples of these sources to more than 10,000,000"):
            compose(asked("repeat", budget), tmp_path)
        for rule in ("stop", "reshare"):
            assert len(compose(asked(rule, budget), tmp_path).examples) == 40
    assert len(compose(asked("repeat", 3000), tmp_path).examples) == (3000 if unit == "examples" else 1000)
