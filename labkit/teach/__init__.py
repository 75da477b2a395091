"""A teacher and a judge as services: what is asked of them, how, and what is made of their answers.

    prompts     what is asked, and how replies are read: the one contract of client and server
    client      asking an OpenAI-compatible endpoint: cache, budget, retries; `ledger` keeps what was paid
                for, `transport` makes one attempt, `wire` carries bytes, `replies` reads what servers answer
    judge       scores of single answers and pairwise comparisons, with their parse failures and biases counted
    distil      mining, classification, expansion and refinement of a training set by a teacher (TAPIR)
    benchmarks  MT-Bench questions and AlpacaEval outputs, read and written
    oracle      an offline teacher, judge and classifier: the instruction families' oracles behind the same prompts
    completions the oracle in the protocol's words, asked in this process; `server` carries it over HTTP
    teacher     a teacher by its name, tried out before it is paid for, and what is asked of it counted

Nothing here trains, and nothing knows which study is running.
"""

from labkit.teach import benchmarks, oracle, prompts
from labkit.teach.client import BudgetSpent, Client, EndpointGone, Failure, Reply, Request, Settings, TeacherFailed
from labkit.teach.distil import classify_all, expand_all, question_of, refine_all
from labkit.teach.judge import Judge, agreement, difficulties, position_bias, win_rate
from labkit.teach.teacher import connect, offline, try_out

__all__ = [
    "BudgetSpent", "Client", "EndpointGone", "Failure", "Judge", "Reply", "Request", "Settings", "TeacherFailed",
    "agreement", "benchmarks", "classify_all", "connect", "difficulties", "expand_all", "offline", "oracle",
    "position_bias", "prompts", "question_of", "refine_all", "try_out", "win_rate",
]  # fmt: skip
