"""Measures a server over a small grid: tokens a second, and what a million tokens of verified answers cost.

A cell of the grid is one server, a concurrency, how many answers share a request (`choices_per_request`) and the most
tokens of an answer. Each asks other prompts as long as there are some, so that the server has not seen them; of how
many it has, `prompts_repeated` of the cell says, since its cache of prefixes may know them. They go through the backend
that the traces stage uses and a ledger of its own, which knows no answer. One request goes before the first
cell of a server and does not count. Whether a server speculates is its own setting: give several addresses to compare
servers; where one counts drafted tokens in its metrics, as vLLM does, the share that it kept stands beside.
"""

import math
import re
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from datagen.backends import openai_api
from datagen.backends.base import Environment, Sampling
from datagen.backends.budget import Budget, BudgetParams, Tokens, estimated_text_tokens
from datagen.backends.endpoints import Replica
from datagen.backends.ledger import Ledger
from datagen.contracts.errors import BackendError, ParamsError
from datagen.contracts.params import Parts, validate
from datagen.contracts.records import Prompt, Rejection, Trace
from datagen.contracts.stage import load_method
from datagen.traces import n_samples
from datagen.traces._rows import to_row

SECONDS_AN_HOUR = 3600
MILLION = 1_000_000
METRICS_TIMEOUT_S = 5.0
_DRAFTED = re.compile(r"^vllm:spec_decode_num_draft_tokens(?:_total)?(?:\{[^}]*\})? (\S+)$", re.M)
_ACCEPTED = re.compile(r"^vllm:spec_decode_num_accepted_tokens(?:_total)?(?:\{[^}]*\})? (\S+)$", re.M)


@dataclass(frozen=True, kw_only=True)
class Grid:
    """What is varied; `n_prompts` are asked in each cell, `n_samples` answers to each."""

    base_urls: Sequence[str]
    concurrency: Sequence[int]
    choices: Sequence[int]
    max_new_tokens: Sequence[int]
    n_prompts: int
    n_samples: int

    def cells(self) -> Iterator[dict[str, Any]]:
        """Each of the grid, a server at a time.

        Raises:
            ParamsError: a number is below 1, or more answers share a request than a prompt gets.
        """
        for name in ("concurrency", "choices", "max_new_tokens"):
            for value in getattr(self, name):
                if value < 1:
                    raise ParamsError(f"--{name.replace('_', '-')}: expected at least 1 (got {value})")
        if max(self.choices) > self.n_samples:
            raise ParamsError(
                f"--choices: {max(self.choices)} answers cannot share a request where a prompt gets {self.n_samples}; "
                f"set --samples {max(self.choices)}, or fewer choices"
            )
        names = ("base_url", "concurrency", "choices_per_request", "max_new_tokens")
        for values in product(self.base_urls, self.concurrency, self.choices, self.max_new_tokens):
            yield dict(zip(names, values, strict=True))


def measure(
    grid: Grid, prompts: Sequence[Prompt], section: Mapping[str, Any], verifier: Mapping[str, Any],
    price_per_hour: float | None = None, tell: Callable[[Mapping[str, Any]], None] = lambda cell: None,
) -> list[dict[str, Any]]:  # fmt: skip
    """The figures of every cell.

    Args:
        grid: see there.
        prompts: at least one; `n_prompts` of them a cell, from the first again where they are used up.
        section: parameters of the endpoint, of sampling and prices, as the traces stage takes them.
        verifier: parameters of verify, such as `{"method": "by_row"}`.
        price_per_hour: of one server, in the currency of the prices; it is added to what tokens cost.
        tell: gets each cell's figures as they come.

    Raises:
        ParamsError: a parameter is wrong.
        BackendError: a server cannot be asked, or answered nothing.
    """
    if not prompts:
        raise ParamsError("--prompts: there is no prompt in it to ask")
    judge = _judge(verifier)
    cells = list(grid.cells())
    parsed = [
        validate(
            {"backend": "openai_api", **section, **{k: v for k, v in cell.items() if k != "concurrency"}},
            Sampling, BudgetParams, openai_api.Config,
        )
        for cell in cells
    ]  # fmt: skip
    figures: list[dict[str, Any]] = []
    asked: dict[str, set[int]] = {}  # server to the places of the prompts that it has seen
    with tempfile.TemporaryDirectory(prefix="datastill-tune-") as folder:
        for n, (cell, params) in enumerate(zip(cells, parsed, strict=True)):
            with Ledger.open(Path(folder, f"{n}.sqlite")) as ledger:
                if cell["base_url"] not in asked:
                    _ask(params, ledger, prompts[-1:], 1, 1)
                    asked[cell["base_url"]] = {len(prompts) - 1}
            n_mine = min(grid.n_prompts, len(prompts))
            places = [(n * grid.n_prompts + i) % len(prompts) for i in range(n_mine)]
            mine = [prompts[place] for place in places]
            with Ledger.open(Path(folder, f"{n}-cell.sqlite")) as ledger:
                before = _drafts(cell["base_url"])
                seconds, traces, failed, budget = _ask(params, ledger, mine, grid.n_samples, cell["concurrency"])
                drafts = _drafts(cell["base_url"])
            figures.append(cell | _figures(seconds, traces, failed, budget, judge, price_per_hour))
            if n_repeated := len(asked[cell["base_url"]].intersection(places)):
                figures[-1]["prompts_repeated"] = n_repeated
            asked[cell["base_url"]].update(places)
            if before and drafts and drafts[0] > before[0]:
                figures[-1]["drafts_accepted_share"] = round((drafts[1] - before[1]) / (drafts[0] - before[0]), 4)
            tell(figures[-1])
    return figures


def best_of(figures: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The cell whose verified tokens cost least, where costs are known; else the one that gives most of them a second.

    A cell without a verified token is last.
    """
    return min(
        figures,
        key=lambda cell: (
            cell.get("cost_per_million_verified_tokens", math.inf) if cell["verified_tokens"] else math.inf,
            -cell["verified_tokens_per_second"],
            -cell["completion_tokens_per_second"],
        ),
    )


def _judge(verifier: Mapping[str, Any]) -> Callable[[Sequence[Trace]], Sequence[bool]]:
    name = verifier.get("method", "by_row")
    method = load_method("datagen.verify", name)
    if hasattr(method, "opened"):
        raise ParamsError(f"--verify method={name}: asks a model of its own, whose time would count; name another")
    config = validate(verifier, method.Config)[method.Config]
    return lambda traces: [verdict.status == "pass" for verdict in getattr(method, name)(config, traces)]


def _ask(
    params: Parts, ledger: Ledger, prompts: Sequence[Prompt], n_each: int, concurrency: int
) -> tuple[float, list[Trace], list[Rejection], Budget]:
    """Seconds from the first request to the last answer, and what came."""
    budget = Budget(params[BudgetParams])
    environment = Environment(ledger=ledger, concurrency=concurrency, budget=budget)
    with openai_api.openai_api(params[openai_api.Config], environment) as teacher:
        start = time.perf_counter()
        attempts = list(
            n_samples.n_samples(
                n_samples.Config(samples_per_prompt=n_each), params[Sampling], prompts, teacher.generate
            )
        )
        seconds = time.perf_counter() - start
    rows = [to_row(attempt, teacher=params[openai_api.Config].model, stage="plan") for attempt in attempts]
    failed = [row for row in rows if isinstance(row, Rejection)]
    if len(failed) == len(rows):
        raise BackendError(f"{params[openai_api.Config].base_url}: no request was answered ({failed[0].detail})")
    return seconds, [row for row in rows if isinstance(row, Trace)], failed, budget


def _figures(
    seconds: float, traces: Sequence[Trace], failed: Sequence[Rejection], budget: Budget,
    judge: Callable[[Sequence[Trace]], Sequence[bool]], price_per_hour: float | None,
) -> dict[str, Any]:  # fmt: skip
    passed = [trace for trace, is_right in zip(traces, judge(traces), strict=True) if is_right]
    spent = budget.spent
    verified = sum(map(_n_tokens, passed))
    figures: dict[str, Any] = {
        "answers": len(traces),
        "failed": len(failed),
        "seconds": round(seconds, 3),
        "prompt_tokens": spent.prompt,
        "completion_tokens": spent.completion,
        "completion_tokens_per_second": round(spent.completion / seconds, 2),
        "verified_answers": len(passed),
        "verified_tokens": verified,
        "verified_tokens_per_second": round(verified / seconds, 2),
    }
    by_tokens = budget.cost(Tokens(spent.prompt, spent.completion))
    if by_tokens is None and price_per_hour is None:
        return figures
    cost = float(by_tokens or 0) + (price_per_hour or 0) * seconds / SECONDS_AN_HOUR
    figures["cost"] = round(cost, 9)
    if verified:
        figures["cost_per_million_verified_tokens"] = round(cost * MILLION / verified, 6)
    return figures


def _n_tokens(trace: Trace) -> int:
    """Of an answer, as the server counts; by the budget's estimate where it does not say."""
    if trace.n_completion_tokens is not None:
        return trace.n_completion_tokens
    return estimated_text_tokens(trace.completion, trace.reasoning, trace.tool_calls)


def _drafts(base_url: str) -> tuple[float, float] | None:
    """Tokens that were drafted and kept so far, over all engines; None where the server does not count them."""
    try:
        with urllib.request.urlopen(str(Replica(base_url, 1).metrics_url), timeout=METRICS_TIMEOUT_S) as reply:
            said = reply.read().decode("utf-8", "replace")
    except (urllib.error.URLError, OSError):
        return None
    drafted, accepted = (list(map(float, pattern.findall(said))) for pattern in (_DRAFTED, _ACCEPTED))
    return (sum(drafted), sum(accepted)) if drafted and accepted else None
