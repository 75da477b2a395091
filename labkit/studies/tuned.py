"""What the studies share that fine-tune a Hugging Face model: one run, resumed where a killed one stopped, and kept."""

import gc
import shutil
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from labkit.instructions import Example
from labkit.lab import Record, write_text
from labkit.learn import qlora


class Tuned(NamedTuple):
    """A fine-tuned model, its tokenizer, and what its training cost: columns of a row."""

    model: Any
    tokenizer: Any
    about: dict[str, Any]


def tune(examples: Sequence[Example], settings: qlora.Finetuning, record: Record) -> Tuned:
    """Fine-tune on the examples; the adapter and what was said of the run stay beside the result.

    Checkpoints lie in the record's lasting folder, so that the next attempt at a killed point goes on from the last.

    Raises:
        BadRequest: as `qlora.finetune`.
    """
    from transformers.utils import logging

    logging.disable_progress_bar()
    said: list[str] = []
    done = qlora.finetune(
        examples,
        settings,
        record.lasting,
        on_log=lambda line: record.log(step=line["step"], loss=line["loss"]),
        say=said.append,
    )
    write_text(record.folder / "finetuning.txt", "\n".join(said) + "\n")
    about = {
        "examples": len(examples),
        "dropped": done.dropped,
        "trainable": done.trainable,
        "tokens": done.tokens,
        "tuning_steps": done.steps,
        "train_seconds": round(done.seconds, 2),
        "peak_bytes": done.peak,
        "loss": done.loss,
    }
    gc.collect()  # the trainer and its model are gone before the next one comes
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    tuned = Tuned(*qlora.load(record.lasting), about)
    shutil.copytree(record.lasting / "adapter", record.folder / "adapter")
    return tuned
