"""How a judge that asks a model of its own comes to one: parameters, ledger, forecast, budget.

The section is flat, as everywhere: the parameters of the backend, of sampling and of the budget stand beside the
method's, and all are checked before anything is spent.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from datagen.backends.base import Environment, Outcome, Request, Sampling, TextBackend
from datagen.backends.budget import Budget, BudgetParams, price_share
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger, ledger_path
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params
from datagen.contracts.stage import Run, find_methods, load_method

Generate = Callable[[Iterable[Request]], Iterator[Outcome]]
"""A backend's `generate`: lazy, in order."""


class Drawing(Sampling):
    """Greedy, unless the section says otherwise; `max_new_tokens` leaves room to give reasons."""

    temperature: float = Field(default=0.0, ge=0)


def backend_configs(section: Mapping[str, Any]) -> tuple[type[Params], ...]:
    """Of which models a section holds parameters besides the stage's and the method's.

    Raises:
        ParamsError: no backend is named, or several answers are to share a request.
    """
    if "backend" not in section:
        there = ", ".join(find_methods("datagen.backends"))
        raise ParamsError(f"backend: required, and not given; it says who is asked: {there}")
    if (n := section.get("choices_per_request", 1)) != 1:
        raise ParamsError(f"choices_per_request: each question is a request of its own; leave it out (got {n})")
    return Drawing, BudgetParams, load_method("datagen.backends", section["backend"], key="backend").Config


@contextmanager
def opened_backend(
    run: Run, backend_name: str, judgements: Callable[[Generate], Iterator[object]]
) -> Iterator[TextBackend]:
    """The backend that the section names, after the forecast of what it will be asked.

    Args:
        run: its params hold those of `backend_configs`; `facts` get what was asked and spent.
        backend_name: the section's `backend`.
        judgements: all of them, by whatever it is given for the backend's `generate`; called once, for the forecast.

    Raises:
        BackendError: the backend cannot be opened, or the budget is spent.
    """
    backend = load_method("datagen.backends", backend_name, key="backend")
    budget = Budget(run.params[BudgetParams], price_share=price_share(run.params.values()))
    with Ledger.open(ledger_path()) as ledger:
        environment = Environment(ledger=ledger, concurrency=run.concurrency, budget=budget)
        with getattr(backend, backend_name)(run.params[backend.Config], environment) as teacher:
            forecast = Forecast(ledger, teacher.identity)
            for _ in judgements(forecast.generate):
                pass
            forecast.announce(run.name, budget)
            run.facts.update(forecast.facts(budget))
            yield teacher
    environment.counts.pop("in_flight", None)
    run.facts.update(environment.counts | budget.facts())
