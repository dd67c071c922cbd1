import pytest

from datagen.backends.base import Sampling
from datagen.contracts.errors import ParamsError
from datagen.contracts.params import validate


@pytest.mark.parametrize(
    "given",
    [{"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0.0}, {"top_p": 1.5}, {"max_new_tokens": 0}],
)
def test_sampling_that_no_teacher_can_do_is_refused(given: dict[str, float]):
    """By definition: a temperature is not negative, a nucleus holds something and at most all, an answer a token."""
    with pytest.raises(ParamsError, match=f"^{next(iter(given))}: "):
        validate(given, Sampling)


def test_greedy_sampling_and_the_whole_vocabulary_are_allowed():
    """The ends of the ranges that mean something."""
    sampling = validate({"temperature": 0, "top_p": 1, "max_new_tokens": 1}, Sampling)[Sampling]
    assert (sampling.temperature, sampling.top_p, sampling.max_new_tokens) == (0, 1, 1)
