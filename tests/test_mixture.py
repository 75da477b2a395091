"""Mixtures: exact budgets, honest manifests, nothing of the tests in the training set."""

import json
import math
import tracemalloc
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import labkit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labkit import BadRequest
from labkit.design.decontamination import Decontaminator
from labkit.design.mixture import Mixture, compose, mix
from labkit.instructions import Example

DATA = Path(__file__).parents[2] / "shared" / "data"
quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def source(folder: Path, name: str, lengths: list[int], start: int = 0) -> None:
    """A file of one record a length; record number i asks `start + i` and has that many words."""
    lines = [
        {"instruction": str(start + i), "output": " ".join(["w"] * (length - 1))} for i, length in enumerate(lengths)
    ]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def spec(weights: dict[str, float], **settings: Any) -> Mixture:
    sources = [{"path": f"{name}.jsonl", "weight": weight} for name, weight in weights.items()]
    return Mixture.model_validate({"sources": sources, "normalise": True, **settings})


lengths = st.lists(st.lists(st.integers(2, 30), min_size=1, max_size=40), min_size=1, max_size=4)
weights = st.lists(st.integers(1, 20), min_size=4, max_size=4)


def sources(folder: Path, sizes: list[list[int]], weight: list[int]) -> dict[str, float]:
    for i, one in enumerate(sizes):
        source(folder, f"s{i}", one, 1000 * i)
    return {f"s{i}": weight[i] for i in range(len(sizes))}


@quick
@given(sizes=lengths, weight=weights, budget=st.integers(1, 200), seed=st.integers(0, 3))
def test_a_budget_of_examples_is_exact(
    sizes: list[list[int]], weight: list[int], budget: int, seed: int, tmp_path: Path
) -> None:
    shares = sources(tmp_path, sizes, weight)
    total = sum(shares.values())
    for rule in ("stop", "repeat", "reshare"):
        mixture = spec(shares, examples=budget, when_exhausted=rule, seed=seed)
        largest = min(budget, *(len(one) * total // share for one, share in zip(sizes, shares.values(), strict=True)))
        if rule == "stop" and largest == 0:
            with pytest.raises(BadRequest, match="holds no example"):
                compose(mixture, tmp_path)
            continue
        mixed = compose(mixture, tmp_path)
        given = Counter(example.source for example in mixed.examples)
        rows = mixed.manifest["sources"]
        assert [row["examples"] for row in rows] == [given[name] for name in shares]
        words = Counter[str]()
        for example in mixed.examples:
            words[example.source] += len(f"{example.instruction} {example.output}".split())
        assert [row["tokens"] for row in rows] == [words[name] for name in shares]
        if rule == "repeat":
            assert len(mixed.examples) == budget
        elif rule == "stop":
            assert len(mixed.examples) == mixed.manifest["reached"] == largest
        else:
            assert len(mixed.examples) == min(budget, sum(map(len, sizes)))
        if rule != "reshare":
            for name, share in shares.items():
                assert abs(given[name] - len(mixed.examples) * share / total) < 1
        copies = Counter(mixed.examples).values()
        if rule == "repeat":  # every epoch is whole before the next begins
            for row, one in zip(rows, sizes, strict=True):
                each = [n for example, n in Counter(mixed.examples).items() if example.source == row["source"]]
                assert max(each, default=0) - min(each if len(each) == len(one) else [0], default=0) <= 1
                assert row["epochs"] == round(max(1, row["examples"] / len(one)), 3)
        else:
            assert max(copies) == 1


@quick
@given(sizes=lengths, weight=weights, budget=st.integers(30, 600), seed=st.integers(0, 3))
def test_a_budget_of_tokens_is_exact_to_one_example(
    sizes: list[list[int]], weight: list[int], budget: int, seed: int, tmp_path: Path
) -> None:
    shares = sources(tmp_path, sizes, weight)
    longest = max(map(max, sizes))
    for rule in ("stop", "repeat", "reshare"):
        mixture = spec(shares, tokens=budget, when_exhausted=rule, seed=seed)
        parts = [sum(one) * sum(shares.values()) // share for one, share in zip(sizes, shares.values(), strict=True)]
        if rule == "stop" and min(parts) < longest:  # perhaps below one example
            continue
        mixed = compose(mixture, tmp_path)
        spent = [row["tokens"] for row in mixed.manifest["sources"]]
        assert sum(spent) <= budget
        reached = mixed.manifest["reached"]
        everything = sum(map(sum, sizes))
        if rule == "repeat":
            assert reached == budget
        elif rule == "stop":
            parts = [
                sum(one) * sum(shares.values()) // share for one, share in zip(sizes, shares.values(), strict=True)
            ]
            assert reached == min(budget, *parts)
        else:
            assert sum(spent) == everything if everything <= budget else reached == budget
        if rule != "reshare":
            assert reached - longest < sum(spent) <= reached
            for tokens, share in zip(spent, shares.values(), strict=True):
                target = reached * share / sum(shares.values())
                assert target - len(sizes) * longest < tokens < target + longest


def test_what_a_source_lacks_goes_to_the_others_by_their_weights(tmp_path: Path) -> None:
    for name, size, start in (("a", 10, 0), ("b", 200, 1000), ("c", 200, 2000)):
        source(tmp_path, name, [5] * size, start)
    asked = spec({"a": 3, "b": 2, "c": 1}, examples=100, when_exhausted="reshare")
    assert [row["examples"] for row in compose(asked, tmp_path).manifest["sources"]] == [10, 60, 30]
    plan = asked.model_copy(update={"examples": None, "tokens": 500})
    assert [row["tokens"] for row in compose(plan, tmp_path).manifest["sources"]] == [50, 300, 150]


def test_composing_is_deterministic_and_nested(tmp_path: Path) -> None:
    source(tmp_path, "a", [5] * 300)
    source(tmp_path, "b", [5] * 300, 1000)
    small, again, other, large = (
        compose(spec({"a": 1, "b": 1}, examples=n, seed=seed), tmp_path)
        for n, seed in ((100, 0), (100, 0), (100, 1), (200, 0))
    )
    assert small.examples == again.examples
    assert small.manifest == again.manifest
    assert small.manifest["fingerprint"] != other.manifest["fingerprint"]
    assert set(small.examples) != set(other.examples)
    assert set(small.examples) < set(large.examples)
    assert [e.source for e in small.examples] != sorted(e.source for e in small.examples)  # shuffled


def test_sampling_is_uniform(tmp_path: Path) -> None:
    source(tmp_path, "a", [2] * 20)
    drawn = Counter(
        example.instruction
        for seed in range(300)
        for example in compose(spec({"a": 1}, examples=5, seed=seed), tmp_path).examples
    )
    expected, spread = 300 / 4, math.sqrt(300 * 3 / 16)
    assert len(drawn) == 20
    assert all(abs(count - expected) < 5 * spread for count in drawn.values())


def test_duplicates_are_dropped_within_and_across_sources(tmp_path: Path) -> None:
    lines = ["Do it.", "do  IT.", "Do that.", "Do it."]
    for name, some in (("a", lines), ("b", ["Do\tthat.", "And more.", "And more."])):
        records = [{"instruction": one, "output": f"{name}{i}"} for i, one in enumerate(some)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    mixed = compose(spec({"a": 1, "b": 1}, examples=100, when_exhausted="reshare"), tmp_path)
    assert sorted(example.output for example in mixed.examples) == ["a0", "a2", "b1"]
    assert [row["duplicates"] for row in mixed.manifest["sources"]] == [2, 2]
    assert mixed.manifest["reached"] == 3
    every = compose(spec({"a": 1, "b": 1}, examples=100, when_exhausted="reshare", deduplicate=False), tmp_path)
    assert len(every.examples) == 7
    with pytest.raises(BadRequest, match="nothing is left of the source 'a'"):
        compose(spec({"b": 1, "a": 1}, examples=9).model_copy(update={"sources": 2 * every_source("a")}), tmp_path)


def every_source(name: str) -> tuple[Any, ...]:
    return spec({name: 1}, examples=1).sources


def test_a_source_of_any_size_is_sampled_in_bounded_memory(tmp_path: Path) -> None:
    with (tmp_path / "a.jsonl").open("w") as file:
        for number in range(20_000):
            file.write(json.dumps({"instruction": f"{number}", "output": "x" * 1000}) + "\n")
    tracemalloc.start()
    mixed = compose(spec({"a": 1}, examples=200), tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(mixed.examples) == 200
    assert mixed.manifest["sources"][0]["records"] == 20_000
    assert peak < 8 << 20  # of 20 MB


def test_tokens_are_those_of_the_tokenizer(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("w", "isolated")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path / "tok")
    source(tmp_path, "a", [5] * 50)
    for name, each in (("tok", 8), ("words", 5), ("bytes", 9)):  # "7\nw w w w"; of records 0 to 9
        mixed = compose(spec({"a": 1}, tokens=100, tokenizer=name), tmp_path)
        lengths = [each + (name == "bytes" and len(example.instruction) - 1) for example in mixed.examples]
        assert mixed.manifest["tokens"] == sum(lengths)
        assert 100 - each - 1 <= sum(lengths) <= 100
    (tmp_path / "none").mkdir()
    with pytest.raises(BadRequest, match="no tokenizer 'none'"):
        compose(spec({"a": 1}, tokens=100, tokenizer="none"), tmp_path)


HUMANEVAL = {
    "task_id": "HumanEval/53",
    "prompt": "def add(x, y):\n    '''Add two numbers x and y, and give back what comes of it if both are 2.'''\n",
    "canonical_solution": "    return x + y\n",
}
MBPP = {"task_id": 2, "text": "Write a function to find the shared elements from the given two lists.", "code": "pass"}


@pytest.fixture
def tests(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "HumanEval.jsonl", tmp_path / "mbpp.json"]
    files[0].write_text(json.dumps(HUMANEVAL) + "\n")
    files[1].write_text(json.dumps([MBPP]))
    return files


@pytest.mark.parametrize(
    ("instruction", "output", "found"),
    [
        ("Please WRITE a function to find\nthe shared elements, from the given two lists!", "ok", ["mbpp/2"]),
        ("Write a function to find the shared items from the given two lists.", "ok", []),
        ("q", "x = 1\n# Add two numbers x and y, and give back what comes of it.\nreturn x + y", ["HumanEval/53"]),
        ("q", "Add two numbers x and y, and give back what comes", []),  # eleven words
        ("Write a function to find the shared", "elements from the given two lists.", []),  # of two fields
    ],
)
def test_overlaps_known(instruction: str, output: str, found: list[str], tests: list[Path]) -> None:
    guard = Decontaminator(tests)
    assert guard.short == 2  # both solutions
    assert [one.test for one in guard.overlaps(Example(instruction, "", output, "s", "i"))] == found
    shorter = Decontaminator(tests, n=10).overlaps(Example(instruction, "", output, "s", "i"))
    assert bool(shorter) == (bool(found) or output.startswith("Add two"))


def test_numbers_alone_are_no_overlap_and_chinese_has_words(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    digits = " ".join(map(str, range(20)))
    path.write_text(
        json.dumps({"question": digits}) + "\n" + json.dumps({"question": "鸡兔同笼共有三十五个头九十四只脚"})
    )
    guard = Decontaminator([path])
    assert not guard.overlaps(Example(digits, "", "o", "s", "i"))
    assert [o.test for o in guard.overlaps(Example("问:鸡兔同笼,共有三十五个头,九十四只脚。", "", "o", "s", "i"))] == [
        "t/2"
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [("", "is empty"), ('{"foo": 1}\n', "none of the columns.*its columns: foo"), ("{\n", "record 1 is broken")],
)
def test_test_files_are_read_whole_or_not_at_all(content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(content)
    with pytest.raises(BadRequest, match=says):
        Decontaminator([tmp_path / "t.jsonl"])


def test_the_command_writes_a_mix_and_protects_other_folders(tmp_path: Path, tests: list[Path]) -> None:
    source(tmp_path, "a", [5] * 20)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps({"instruction": MBPP["text"], "output": "o"}) + "\n[]\n")
    plan = {
        "sources": [{"path": "a.jsonl", "weight": 1.0, "on_bad": "skip"}],
        "examples": 30,
        "decontaminate": [tests[1].name],
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(plan))
    out = tmp_path / "out"
    done = labkit("mix", tmp_path / "spec.yaml", "--out", out)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in out.iterdir()) == ["contaminated.jsonl", "manifest.json", "train.jsonl"]
    manifest = json.loads((out / "manifest.json").read_text())
    row = manifest["sources"][0]
    assert (row["examples"], row["bad"], row["contaminated"]) == (20, {"not an object": 1}, 1)
    assert row["sha256"] == sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    assert "note: of 30 examples asked for, the sources supply 20" in done.stdout
    assert str(row["tokens"]) in done.stdout
    pair = json.loads((out / "contaminated.jsonl").read_text())
    assert (pair["test"], pair["instruction"]) == ("mbpp/2", MBPP["text"])
    lines = (out / "train.jsonl").read_text().splitlines()
    assert len(lines) == 20
    seal = sha256(json.dumps(manifest["spec"], sort_keys=True).encode())
    for line in lines:
        seal.update(f"{line}\n".encode())
    assert manifest["fingerprint"] == seal.hexdigest()

    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert mix(tmp_path / "spec.yaml", out)["fingerprint"] == manifest["fingerprint"]  # the same again is no harm
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(plan | {"seed": 1}))
    refused = labkit("mix", tmp_path / "spec.yaml", "--out", out)
    assert refused.returncode == 2
    assert "is not empty and holds no mix of this very spec" in refused.stderr
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before


ONE = {"path": "a.jsonl", "weight": 1.0}


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"sources": [ONE]}, "one budget"),
        ({"sources": [ONE], "examples": 5, "tokens": 5}, "one budget"),
        ({"sources": [ONE, ONE], "examples": 5}, "the weights sum to 2, not to 1"),
        ({"sources": [ONE | {"weight": -1}], "examples": 5}, r"sources\.0\.weight = -1"),
        ({"sources": [ONE], "examples": True}, "examples = True"),
        ({"sources": [ONE], "examples": 5, "shuffle": 1}, "unknown field of the mixture"),
        (
            {"sources": [{"source": "a.jsonl", "weight": 1}], "examples": 5},
            "unknown field of a source .* 'source' .allowed",
        ),
        ({"sources": [{"weight": 1}], "examples": 5}, "a source needs a corpus or a path"),
        ({"sources": [{"weight": 1, "corpus": "code_alpaca"}], "examples": 5}, "`decontaminate` must name the test"),
        ({"sources": [ONE], "examples": 5, "decontaminate": ["none.jsonl"]}, "none.jsonl does not exist"),
        ({"sources": [ONE | {"corpus": "alpacca"}], "examples": 5}, "did you mean 'alpaca'"),
        ({"sources": [ONE], "tokens": 3}, "holds no example"),
        ([], "is no mapping"),
    ],
)
def test_bad_specs_are_one_sentence_and_write_nothing(plan: Any, says: str, tmp_path: Path) -> None:
    source(tmp_path, "a", [5] * 3)
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(plan))
    with pytest.raises(BadRequest, match=says) as refusal:
        mix(tmp_path / "spec.yaml", tmp_path / "out")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "out").exists()


def test_a_real_mixture(tmp_path: Path) -> None:
    if not (DATA / "code_alpaca").exists():
        pytest.skip("the published files are not here")
    real = {
        "code_alpaca": ("code_alpaca/code_alpaca_2k.jsonl.gz", 0.6),
        "alpaca": ("alpaca/alpaca_random_9k.jsonl.gz", 0.3),
        "flan_cot": ("cot_flan/strategyqa_train.tsv.gz", 0.1),
    }
    mixture = Mixture.model_validate(
        {
            "sources": [
                {"corpus": name, "path": str(DATA / file), "weight": weight, "on_bad": "skip"}
                for name, (file, weight) in real.items()
            ],
            "examples": 10_000,
            "when_exhausted": "repeat",
            "decontaminate": [str(DATA / "humaneval/HumanEval.jsonl.gz"), str(DATA / "mbpp/mbpp.jsonl")],
        }
    )
    mixed = compose(mixture)
    rows = {row["source"]: row for row in mixed.manifest["sources"]}
    assert [row["examples"] for row in rows.values()] == [6000, 3000, 1000]
    assert rows["code_alpaca"]["contaminated"] > 0  # textbook programs such as a test for primes
    assert rows["flan_cot"]["contaminated"] == 0
    assert rows["code_alpaca"]["epochs"] == round(6000 / (2015 - rows["code_alpaca"]["contaminated"]), 3)
    guard = Decontaminator(mixture.decontaminate or ())
    assert not any(guard.overlaps(example) for example in set(mixed.examples))
    assert {pair["test"].split("/")[0] for pair in mixed.contaminated} <= {"HumanEval", "mbpp"}
