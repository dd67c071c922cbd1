"""An attempt as a row: the trace that came of it, or the rejection that says why there is none."""

from datagen.backends.base import Failure
from datagen.contracts.records import Rejection, Trace
from datagen.traces import Attempt


def to_row(attempt: Attempt, *, teacher: str, stage: str) -> Trace | Rejection:
    """Its id is `{prompt_id}#{sample_index}.{start of the request's key}` either way."""
    outcome, prompt = attempt.outcome, attempt.prompt
    id = f"{prompt.id}#{attempt.sample_index}.{outcome.key.hex()[:8]}"
    answer = outcome.answer
    if isinstance(answer, Failure):
        return Rejection(id=id, stage=stage, reason=answer.reason, detail=answer.detail)
    return Trace(
        id=id,
        prompt=prompt,
        sample_index=attempt.sample_index,
        completion=answer.text,
        reasoning=answer.reasoning,
        tool_calls=answer.tool_calls,
        finish_reason=answer.finish_reason,
        teacher=teacher,
        request_key=outcome.key.hex(),
        seed=outcome.request.sampling.seed,
        n_prompt_tokens=answer.n_prompt_tokens,
        n_completion_tokens=answer.n_completion_tokens,
        score=attempt.score,
        best=attempt.best,
        prompt_token_ids=answer.prompt_token_ids,
        token_ids=answer.token_ids,
    )
