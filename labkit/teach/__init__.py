"""A teacher and a judge as services: what is asked of them, how, and what is made of their answers.

    prompts     what is asked, and how replies are read: the one contract of client and server
    client      asking an OpenAI-compatible endpoint: cache, budget, retries; `ledger` keeps what was paid
                for, `transport` makes one attempt, `wire` carries bytes, `replies` reads what servers answer
    judge       scores of single answers and pairwise comparisons, with their parse failures and biases counted
    distil      mining, classification, expansion and refinement of a training set by a teacher (TAPIR)
    benchmarks  MT-Bench questions and AlpacaEval outputs, read and written
    oracle      an offline teacher, judge and classifier: the instruction families' oracles behind the same prompts
    server      the oracle behind HTTP, as a hosted model would be

Nothing here trains, and nothing knows which study is running.
"""

from contextlib import AbstractContextManager
from typing import Any

from labkit.teach import benchmarks, oracle, prompts
from labkit.teach.client import BudgetSpent, Client, EndpointGone, Failure, Reply, Request, Settings, TeacherFailed
from labkit.teach.distil import classify_all, expand_all, question_of, refine_all
from labkit.teach.judge import Judge, agreement, difficulties, position_bias, win_rate

__all__ = [
    "BudgetSpent",
    "Client",
    "EndpointGone",
    "Failure",
    "Judge",
    "Reply",
    "Request",
    "Settings",
    "TeacherFailed",
    "agreement",
    "benchmarks",
    "classify_all",
    "difficulties",
    "expand_all",
    "offline",
    "oracle",
    "position_bias",
    "prompts",
    "question_of",
    "refine_all",
    "win_rate",
]


def offline(**options: Any) -> AbstractContextManager[str]:
    """The offline teacher for the length of a `with`, which gives its address; see `labkit.teach.server.running`."""
    from labkit.teach.server import running  # Starlette and uvicorn are needed here alone

    return running(**options)
