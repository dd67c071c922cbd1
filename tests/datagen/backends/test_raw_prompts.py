"""Raw prompts: text that goes to the model as it is.

Oracles: the body written out by hand from the API reference, transformers' own `generate` on the same ids, the key that
a request had before there were raw prompts.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from datagen.backends import batch_api, openai_api, scripted
from datagen.backends.base import Completion, Environment, Failure, Request, Sampling
from datagen.backends.forecast import Forecast
from datagen.backends.ledger import Ledger
from datagen.backends.local import Config, local
from datagen.contracts.errors import ParamsError
from tests.chat_server import ChatServer, answer_to
from tests.tiny_model import write_tiny_model

IDENTITY = {"backend": "local", "model": "m", "revision": "r"}
SAMPLING = Sampling(temperature=0.7, max_new_tokens=32, stop=("\n",), seed=7)


def raw(text: str, **sampling: Any) -> Request:
    return Request(prompt=text, sampling=SAMPLING.model_copy(update=sampling))


def test_a_request_without_a_raw_prompt_keeps_its_key():
    """The key that was computed before requests had the field."""
    request = Request(messages=[{"role": "user", "content": "Hallå"}], sampling=SAMPLING, sample_index=2, tools="[]")
    assert request.key(IDENTITY).hex() == "a1a6f325a126893fdfc7cc78fdb558e20186ec4ae38117c487fc0a6dbf311ec9"


def test_a_raw_prompt_is_part_of_the_key_and_stands_alone():
    """Different texts, different keys; the same text as a message is another request."""
    as_message = Request(messages=[{"role": "user", "content": "a"}], sampling=SAMPLING)
    assert len({one.key(IDENTITY) for one in (raw("a"), raw("b"), raw(""), as_message)}) == 4
    more: dict[str, Any]
    for more in ({"messages": [{"role": "user", "content": "a"}]}, {"tools": "[]"}, {"response_schema": "{}"}):
        with pytest.raises(ValueError, match="raw prompt"):
            Request(prompt="a", sampling=SAMPLING, **more)


def test_a_server_gets_it_at_the_completions_api(server: ChatServer, ledger: Ledger):
    """Written out by hand from the reference of POST /v1/completions and vLLM's two fields; a second run asks none."""
    config = openai_api.Config.model_validate({"backend": "openai_api", "base_url": server.base_url, "model": "m"})
    with openai_api.openai_api(config, Environment(ledger=ledger)) as backend:
        outcome, again = (next(backend.generate([raw("<|user|>\nHé")])) for _ in range(2))
    body = {
        "model": "m", "prompt": "<|user|>\nHé", "add_special_tokens": False, "skip_special_tokens": False,
        "temperature": 0.7, "top_p": 1.0, "max_tokens": 32, "seed": 7, "stop": ["\n"],
    }  # fmt: skip
    assert server.bodies == [body]
    said = answer_to(body)
    assert again.from_ledger and again.answer == outcome.answer
    usage = said["usage"]
    assert outcome.answer == Completion(
        text=said["choices"][0]["text"], finish_reason="stop", n_prompt_tokens=usage["prompt_tokens"],
        n_completion_tokens=usage["completion_tokens"],
    )  # fmt: skip


def test_a_server_s_samples_share_a_request(server: ChatServer, ledger: Ledger):
    """Three samples of one text, one of another: two requests, of n = 3 and of one."""
    config = openai_api.Config.model_validate(
        {"backend": "openai_api", "base_url": server.base_url, "model": "m", "choices_per_request": 3}
    )
    requests = [Request(prompt="a", sampling=SAMPLING, sample_index=i) for i in range(3)]
    requests.append(Request(prompt="b", sampling=SAMPLING, sample_index=0))
    with openai_api.openai_api(config, Environment(ledger=ledger, concurrency=1)) as backend:
        texts = [one.answer.text for one in backend.generate(requests) if isinstance(one.answer, Completion)]
    assert [(body["prompt"], body.get("n", 1)) for body in server.bodies] == [("a", 3), ("b", 1)]
    assert texts == [choice["text"] for body in server.bodies for choice in answer_to(body)["choices"]]


def test_log_probs_of_a_raw_prompt_are_refused_before_anything_is_sent(server: ChatServer, ledger: Ledger):
    """The completions API writes them in another form."""
    config = openai_api.Config.model_validate(
        {"backend": "openai_api", "base_url": server.base_url, "model": "m", "logprobs": True}
    )
    with (
        openai_api.openai_api(config, Environment(ledger=ledger)) as backend,
        pytest.raises(ParamsError, match="leave logprobs"),
    ):
        list(backend.generate([raw("a")]))
    assert not server.bodies


def test_a_batch_takes_none(server: ChatServer, ledger: Ledger):
    """A failure that says who does; nothing is uploaded."""
    config = batch_api.Config.model_validate({"backend": "batch_api", "base_url": server.base_url, "model": "m"})
    with batch_api.batch_api(config, Environment(ledger=ledger)) as backend:
        (outcome,) = backend.generate([raw("a")])
    assert isinstance(outcome.answer, Failure)
    assert (outcome.answer.reason, "openai_api" in outcome.answer.detail) == ("raw_prompt", True)


def test_a_script_counts_its_words_and_a_forecast_its_bytes(ledger: Ledger):
    """Two words; 8 bytes are two tokens, and four are a message's, as the budget's rule says."""
    with scripted.scripted(scripted.Config(backend="scripted"), Environment(ledger=ledger)) as backend:
        (outcome,) = backend.generate([raw("one twos")])
        forecast = Forecast(ledger, backend.identity)
        list(forecast.generate([raw("one twos"), raw("one more")]))
    assert isinstance(outcome.answer, Completion) and outcome.answer.n_prompt_tokens == 2
    assert (forecast.n_requests, forecast.n_answered, forecast.tokens.prompt) == (1, 1, 2 + 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


def test_a_local_model_gets_the_text_s_own_tokens(folder: Path, ledger: Ledger):
    """The greedy `generate` of transformers on the ids of the text alone; special tokens stay as text."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder)
    texts = ["<s>user: ", "no start", "<s><pad>x"]
    with local(Config(model=str(folder)), Environment(ledger=ledger)) as backend:
        outcomes = list(backend.generate([raw(text, temperature=0.0, max_new_tokens=40, stop=()) for text in texts]))
    for text, outcome in zip(texts, outcomes, strict=True):
        ids = [tokenizer.convert_tokens_to_ids(token) for token in tokenizer.tokenize(text)]
        asked = torch.tensor([ids])
        new = model.generate(asked, attention_mask=torch.ones_like(asked), do_sample=False, max_new_tokens=40)
        new = new[0, len(ids) :].tolist()
        ended = new[-1] == tokenizer.eos_token_id
        assert outcome.answer == Completion(
            text=tokenizer.decode(new[:-1] if ended else new, skip_special_tokens=False),
            finish_reason="stop" if ended else "length",
            n_prompt_tokens=len(ids),
            n_completion_tokens=len(new),
        )


def test_a_local_answer_keeps_special_tokens_and_stops_at_their_text(folder: Path, ledger: Ledger):
    """A model of equal logits draws every token: of 20 answers some hold <pad>, none where it is a stop string."""
    silent = write_tiny_model(folder.parent / "silent", silent=True)
    options = {"temperature": 1.0, "max_new_tokens": 200}
    with local(Config(model=str(silent)), Environment(ledger=ledger)) as backend:
        free = list(backend.generate([raw("<s>", **options, stop=(), seed=seed) for seed in range(20)]))
        stopped = list(backend.generate([raw("<s>", **options, stop=("<pad>",), seed=seed) for seed in range(20)]))
        (empty,) = backend.generate([raw("", **options)])
    texts = [one.answer.text if isinstance(one.answer, Completion) else "" for one in free]
    cut = [one.answer.text if isinstance(one.answer, Completion) else "" for one in stopped]
    assert any("<pad>" in text for text in texts) and not any("</s>" in text for text in texts)
    assert cut == [text.partition("<pad>")[0] for text in texts]
    assert isinstance(empty.answer, Failure) and empty.answer.reason == "empty_prompt"
