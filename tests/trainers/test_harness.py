import pytest

from datagen.contracts.errors import ParamsError
from datagen.contracts.records import Message, Prompt
from trainers.harness import answerable

QUESTION: Message = {"role": "user", "content": "How many?"}


def test_prompts_that_the_harness_can_judge():
    """Oracle: by hand, from what its filter can take whole out of an answer."""
    references = {
        "7": True, "-3": True, "$1,080": True, "2.5": True, "He has 3 + 4 = 7.\n#### 7": True, r"So \boxed{12}": True,
        "1/2": False, "50%": False, r"\frac{1}{2}": False, "3 million": False, "Paris": False, "2 or 3": False,
        None: False,
    }  # fmt: skip
    prompts = [Prompt(id=f"p{i}", messages=[QUESTION], reference=text) for i, text in enumerate(references)]
    prompts.append(Prompt(id="two turns", messages=[QUESTION, QUESTION], reference="7"))
    assert answerable(prompts) == [i for i, judged in enumerate(references.values()) if judged]
    with pytest.raises(ParamsError, match="no prompt has a number as its reference"):
        answerable(prompts[6:])
