"""The Hugging Face hub is asked once whether it answers, so that nobody waits for a library's retries.

Left open: a hub that answers the first question and is silent later.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

PATIENCE = 5.0  # seconds for a first answer


@contextmanager
def hub_or_cache() -> Iterator[None]:
    """The hub, where it answers; else only what is in its cache, and what is not there fails at once."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not answers(constants.ENDPOINT)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@cache
def answers(endpoint: str) -> bool:
    """Whether anything answers at the hub's address; asked once per process."""
    import httpx

    try:
        httpx.head(endpoint, timeout=PATIENCE)
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return True
