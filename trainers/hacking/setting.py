"""The setting of a run of teacher hacking: data, teacher, student.

Source: none; the parameters of `trainers.hacking.tabular`.
"""

from typing import Literal

from pydantic import Field

from datagen.contracts.params import Params

# Between what the detector says of runs whose golden curve turns and of others, over seeds that no test and no
# reported figure uses: `python -m benchmarks.students_hacking --calibrate` prints both ends.
THRESHOLD = 0.25


class Config(Params):
    """Defaults make a student hack its teacher; more prompts, or fresh ones, do not.

    `fresh` is what is drawn anew for every step: `nothing`, for fixed data; the `responses` to the same prompts; or
    `prompts`, with their responses. `teacher_error` is the root mean square of what the teacher's logits have over the
    oracle's. `seeds` is the number of worlds, each with an oracle, a teacher and prompts of its own. The detector fires
    where the held-out proxy ends by more than `threshold` of itself above its power law.
    """

    n_prompts: int = Field(20, ge=1)
    responses_per_prompt: int = Field(1, ge=1)
    fresh: Literal["nothing", "responses", "prompts"] = "nothing"
    teacher_error: float = Field(1.2, ge=0)
    n_features: int = Field(224, ge=1)
    n_held_out: int = Field(200, ge=1)
    n_steps: int = Field(1200, ge=100)
    learning_rate: float = Field(0.01, gt=0)
    threshold: float = Field(THRESHOLD, gt=0)
    seeds: int = Field(3, ge=1)
    seed: int = 0
