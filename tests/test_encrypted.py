"""Encrypted rewriting: the oracle, the base model that fine-tuning starts from, and the study end to end."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import labkit
from fabricated import estimates, verdicts
from hypothesis import given, settings
from hypothesis import strategies as st

from labkit import BadRequest, learn
from labkit.instructions import RewritingTask, decode, draw_inputs, draw_rules
from labkit.instructions.encrypted import EncryptedTask, draw_encrypted, encrypt_plain, encrypted_examples
from labkit.lab import Store, sweep
from labkit.learn import chat, llama
from labkit.studies.base_model import RULES_SEED, Base, base_of, encode_ended, pretrain_into
from labkit.studies.cell import measure
from labkit.studies.encrypted_rewriting import STUDY, Cell, Params, points, task_of
from labkit.studies.rows import GRADED, long_rows

TINY = {
    "layers": 2,
    "width": 16,
    "heads": 2,
    "rules": 100,
    "steps": 6,
    "batch_size": 16,
    "test_rules": 20,
    "n_test": 40,
}


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_the_fast_path_says_what_the_plain_interpreter_says(data: st.DataObject) -> None:
    symbols = data.draw(st.integers(3, 26))
    alphabet = "".join(data.draw(st.permutations("abcdefghijklmnopqrstuvwxyz"))[:symbols])
    task = RewritingTask(3, data.draw(st.integers(5, 12)), 1, data.draw(st.floats(0, 1)), alphabet)
    secret = EncryptedTask(task, data.draw(st.integers(1, symbols - 1)))
    rules = draw_rules(task, 2, seed=data.draw(st.integers(0, 9)))
    inputs = draw_encrypted(secret, rules, np.arange(12) % 2, seed=0)
    plain = draw_inputs(task, rules, np.arange(12) % 2, seed=0)
    assert np.array_equal(inputs.z, plain.z)  # only the answers differ
    for example, i, noop in zip(encrypted_examples(secret, rules, inputs), inputs.index, inputs.noop, strict=True):
        told, answer = example.input.replace(" ", ""), example.output.replace(" ", "")  # in words letters stand apart
        result = rules.rule(int(i)).apply(told)
        assert answer == encrypt_plain(result, secret.shift, alphabet)
        assert all(a != b for a, b in zip(answer, result, strict=True))
        assert encrypt_plain(answer, symbols - secret.shift, alphabet) == result  # and can be read again
        assert noop == (result == told)


@pytest.mark.parametrize("shift", [0, 26, -1])
def test_a_key_that_is_none_is_refused(shift: int) -> None:
    with pytest.raises(BadRequest, match=f"shift = {shift}: with 26 symbols a key is 1 to 25"):
        EncryptedTask(RewritingTask(3, 8), shift)


def test_the_base_is_a_hugging_face_model_that_says_what_ours_says(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    secret = EncryptedTask(RewritingTask(3, 8, 1, 0.4), 3)
    rules = draw_rules(secret.rewriting, 10, seed=0)
    inputs = draw_encrypted(secret, rules, np.arange(10), seed=0)
    encoded = encode_ended(secret.rewriting, rules, inputs)
    ours = learn.build("llama", learn.Shape(len(encoded.vocabulary) + 1, encoded.tokens.shape[1], 2, 16, 2, 1), 0)
    assert isinstance(ours, llama.Llama)
    torch.nn.init.normal_(ours.llama.lm_head.weight)
    llama.export(ours, encoded.vocabulary, tmp_path)
    theirs, tokenizer = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    tokens = torch.from_numpy(encoded.tokens).long()
    with torch.inference_mode():
        torch.testing.assert_close(theirs(input_ids=tokens).logits, ours(tokens[None], tokens.shape[1])[0])
    # what fine-tuning makes of an example is what pre-training was made of, token by token, and so is the mask
    chat.set_template(tokenizer)
    shown = chat.encode(tokenizer, list(encrypted_examples(secret, rules, inputs, words=False)))
    assert np.array_equal(shown.tokens.reshape(10, -1), encoded.tokens)
    assert set(shown.prompts) == {encoded.prompt_length}
    assert tokenizer.decode(encoded.tokens[0]) == encoded.decode(0)


def pretrained(base: Base, store: Store) -> Path:
    """The base model's folder in a store."""
    store.measure(base, measure)
    return store.folder(base)


def test_pretraining_repeats_itself_and_is_done_once(tmp_path: Path) -> None:
    base = base_of(TINY)
    first, second = (pretrained(base, Store(tmp_path / name)) for name in ("one", "two"))
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] == weights[1]
    assert (
        pretrained(base_of(TINY | {"seed": 1}), Store(tmp_path / "one")) / "model.safetensors"
    ).read_bytes() not in (weights)
    before = (first / "result.json").stat().st_mtime_ns
    out = tmp_path / "out"
    card = pretrain_into(base, out, Store(tmp_path / "one"))
    assert pretrain_into(base, out, Store(tmp_path / "nowhere")) == card  # there already: no store is asked
    assert (first / "result.json").stat().st_mtime_ns == before
    for words in ("license: mit", "steps: 6", "rules never seen"):
        assert words in card
    with pytest.raises(BadRequest, match="holds something other than this base model"):
        pretrain_into(base_of(TINY | {"steps": 7}), out, Store(tmp_path / "one"))


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"step": 3}, "did you mean 'steps'"),
        ({"heads": 3}, "must be an even number of each of heads = 3"),
        ({"steps": 0}, "steps = 0"),
        ({"alphabet": "abc"}, "but there are"),
        ({"pattern_length": 9}, "does not fit"),
    ],
)
def test_a_base_that_cannot_be_is_refused(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        base_of(given)


@pytest.mark.slow
def test_the_command_prints_the_card_and_refuses_in_one_sentence(tmp_path: Path) -> None:
    words = ["pretrain", "--out", str(tmp_path / "base")]
    for name, value in TINY.items():
        words += ["--set", f"{name}={value}"]
    done = labkit(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout == (tmp_path / "base" / "README.md").read_text()
    refused = labkit(*words, "--set", "depth=3")
    assert refused.returncode == 2
    assert "unknown setting of the base model 'depth'" in refused.stderr


def smoke(**changes: Any) -> Params:
    found = STUDY.resolve({"scale": "smoke", **changes})
    assert isinstance(found, Params)
    return found


def test_sets_hold_what_they_promise_and_no_exam_meets_training() -> None:
    cells = points(smoke(n_instructions=[4], halved=[40], budget=321))
    assert [(cell.n_instructions, cell.sampling) for cell in cells] == [
        *((40, "uneven half"), (40, "even half"), (40, "whole"), (4, "whole"))
    ]
    for cell in cells:
        lesson = cell.lesson()
        training, seen, unseen = (list(data) for data in (lesson.data, *(e.data for e in lesson.exams.values())))
        ids = [{example.instruction_id for example in examples} for examples in (training, seen, unseen)]
        assert len(ids[0]) == cell.n_instructions
        per_rule = np.array(list(Counter(example.instruction_id for example in training).values()))
        assert per_rule.sum() == len(training) == (321 if cell.sampling == "whole" else 160)
        assert per_rule.min() >= 1
        assert (np.ptp(per_rule) > 1) == (cell.sampling == "uneven half")
        noops = sum(example.instruction_id.split(" -> ")[0] not in example.input for example in training)
        assert abs(noops - 0.4 * len(training)) <= 1
        assert ids[1] == ids[0]
        sides = [{side for rule in some for side in rule.split(" -> ")} for some in (ids[0], ids[2])]
        (base,) = cell.bases
        known = draw_rules(base.task, base.rules, seed=RULES_SEED)
        sides[0] |= {decode(row, cell.alphabet) for row in np.concatenate([known.x, known.y])}
        assert not sides[0] & sides[1]
        assert {task_of(cell).shift, cell.shift} == {3}


def test_seeds_pick_rules_of_their_own() -> None:
    one, two = (cell.lesson() for cell in points(smoke(n_instructions=[40], halved=[], seeds=[0, 1])))
    assert {e.instruction_id for e in one.data} != {e.instruction_id for e in two.data}


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ({"shift": 26}, "a key is 1 to 25"),
        ({"noop_share": 1}, "noop_share = 1"),
        ({"n_instructions": [300_000]}, "rules to choose from"),
        ({"halved": [200]}, "n_instructions = 200 is more than budget = 160"),
        ({"base_heads": 5}, "heads = 5"),
        ({"n_test": 10}, "fewer than one example for each"),
        ({"seeds": [1, 1]}, "names a value twice"),
    ],
)
def test_a_bad_request_is_one_sentence(given: dict[str, Any], complaint: str) -> None:
    with pytest.raises(BadRequest, match=complaint):
        smoke(**given)


def test_the_paper_scale_is_the_papers() -> None:
    params = STUDY.resolve({"scale": "paper"})
    assert isinstance(params, Params)
    assert (params.model, params.quantisation) == ("meta-llama/Llama-2-7b-hf", "int8")
    assert (params.rank, params.alpha, params.learning_rate, params.batch_size, params.steps) == (
        512,
        1024,
        1e-5,
        64,
        2000,
    )
    assert (params.budget, params.n_test, params.noop_share) == (40_000, 5000, 0.4)
    assert all(cell.bases == () for cell in points(params))  # the own base plays no part


@pytest.mark.slow
def test_the_study_runs_end_to_end_and_goes_on_where_it_was(own_store: Path) -> None:
    store = Store(own_store)
    cells = points(smoke())
    sweep(cells[:1], STUDY.measure, store=store, jobs=0)
    finished = {path: path.stat().st_mtime_ns for path in own_store.rglob("result.json")}
    assert len(finished) == 2  # the base model, and a first cell
    rows = sweep(cells, STUDY.measure, store=store, jobs=0)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())
    assert len(store.read("base_model")[0]) == 1
    for row in rows:
        asked = {line["kind"]: sum(line["asked"]) for line in row[GRADED] if line["exam"] == "unseen"}
        assert asked["op"] + asked["noop"] == asked[""] == row["n_test"]
        assert [log["step"] for log in store.log(STUDY.name, row["address"])] == list(range(1, row["steps"] + 1))
        folder = store.points_folder(STUDY.name) / row["address"]
        assert (folder / "adapter_config.json").exists()
        assert "=⟦" in (folder / "notes.txt").read_text()
    results = STUDY.summarise(long_rows(rows))
    assert {row["verdict"] for row in results.claims} == {"cannot tell"}  # one seed
    for view in results.views():
        assert results.chart(view).to_dict()
    assert sum(len(results.table(view)) for view in ("rules", "halves")) == len(cells) + 2  # whole sets are in both


@pytest.mark.slow
def test_any_hugging_face_model_is_fine_tuned_and_told_what_to_do(own_store: Path, tmp_path: Path) -> None:
    from tiny import tiny_llama

    path = str(tiny_llama(tmp_path / "tiny"))
    small = {
        "steps": 2,
        "batch_size": 4,
        "budget": 20,
        "test_rules": 4,
        "n_test": 4,
        "n_instructions": [4],
        "halved": [],
    }
    (cell,) = points(STUDY.resolve({"scale": "paper", "model": path, "rank": 8, **small}))
    assert "every letter 3 places on" in cell.lesson().data[0].instruction
    (row,) = sweep([cell], STUDY.measure, store=Store(own_store), jobs=0)
    assert row["trainable"] > 0
    assert "base_accuracy" not in row


def judge(*rows: tuple[int, str, tuple[float, float], tuple[float, float]], seeds: int = 2) -> list[str]:
    """Verdicts from numbers of rules, sampling, and the intervals of op and no-op accuracy."""
    lines = [
        {"exam": f"unseen:{kind}", "n_instructions": n, "sampling": sampling, "mean": sum(ends) / 2}
        | {"lo": ends[0], "hi": ends[1], "seeds": seeds}
        for n, sampling, op, noop in rows
        for kind, ends in (("op", op), ("noop", noop))
    ]
    whole = [line for line in lines if line["sampling"] == "whole"]
    return verdicts(STUDY, {"rules": estimates(*whole), "halves": estimates(*lines)})


SOLVED = (0.95, 1.0)


@pytest.mark.parametrize(
    ("rows", "seeds", "expected"),
    [
        ([(10, "whole", (0.0, 0.01), SOLVED), (100, "whole", (0.8, 0.9), SOLVED)], 2, ["supports"] * 2),
        ([(10, "whole", (0.0, 0.01), SOLVED), (100, "whole", (0.8, 0.9), SOLVED)], 1, ["cannot tell"] * 2),
        ([(10, "whole", (0.8, 0.9), SOLVED), (100, "whole", (0.1, 0.2), SOLVED)], 2, ["contradicts"] * 2),
        ([(10, "whole", (0.0, 0.01), (0.2, 0.3))], 2, ["not tested here", "contradicts"]),
    ],
)
def test_verdicts_on_the_number_of_rules(rows: Any, seeds: int, expected: list[str]) -> None:
    assert judge(*rows, seeds=seeds) == [*expected, "not tested here", "not tested here"]


@pytest.mark.parametrize(
    ("even", "uneven", "expected"),
    [
        ((0.79, 0.85), (0.3, 0.4), ["supports"] * 2),
        ((0.3, 0.4), (0.79, 0.85), ["contradicts"] * 2),
        ((0.6, 0.9), (0.6, 0.9), ["cannot tell"] * 2),
    ],
)
def test_verdicts_on_halves(even: Any, uneven: Any, expected: list[str]) -> None:
    rows = [(100, "whole", (0.8, 0.84), SOLVED), (100, "even half", even, SOLVED), (100, "uneven half", uneven, SOLVED)]
    assert judge(*rows)[2:] == expected


def test_a_cell_is_told_apart_by_all_that_decides_it() -> None:
    (cell,) = points(smoke(n_instructions=[4], halved=[]))
    changed = [
        {"sampling": "even half"},
        *({name: 9} for name in ("seed", "shift", "rank")),
        {"bases": (cell.bases[0].model_copy(update={"steps": 9}),)},
        {"model": "some/model"},
    ]
    assert len({Cell(**cell.model_dump() | change).address for change in [{}, *changed]}) == len(changed) + 1
