"""Oracles: messages and values written out by hand."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, ValidationError

from datagen.contracts.errors import ParamsError
from datagen.contracts.params import Params, load_file, parse_assignments, validate
from datagen.contracts.stage import check_sections


class Common(Params):
    method: str = "n_samples"
    seed: int = 0


class Method(Params):
    method: Literal["n_samples"] = "n_samples"
    samples_per_prompt: int = Field(1, ge=1)
    temperature: float = 0.7
    model: str


def test_each_config_takes_the_keys_that_it_declares():
    parts = validate({"seed": 3, "samples_per_prompt": 4, "model": "m"}, Common, Method)
    assert parts[Common] == Common(seed=3)
    assert parts[Method] == Method(samples_per_prompt=4, model="m")
    assert parts.values() == {
        "method": "n_samples", "model": "m", "samples_per_prompt": 4, "seed": 3, "temperature": 0.7
    }  # fmt: skip


class Server(Params):
    base_url: str = Field(json_schema_extra={"connection": True})
    model: str


def test_the_address_of_a_server_is_a_parameter_that_no_manifest_holds():
    parts = validate({"base_url": "http://user@10.0.0.1", "model": "m"}, Server)
    assert parts[Server].base_url == "http://user@10.0.0.1"
    assert parts.values() == {"model": "m"}


def test_every_problem_is_told_at_once():
    """Two unknown keys, a wrong type, a value out of range and a missing key: five lines."""
    with pytest.raises(ParamsError) as error:
        validate({"samples_per_promt": 4, "zzz": 1, "seed": "many", "samples_per_prompt": 0}, Common, Method)
    assert str(error.value).splitlines() == [
        "samples_per_promt: unknown parameter; did you mean samples_per_prompt?",
        "zzz: unknown parameter; there are method, model, samples_per_prompt, seed, temperature",
        'seed: Input should be a valid integer, unable to parse string as an integer (got "many")',
        "samples_per_prompt: Input should be greater than or equal to 1 (got 0)",
        "model: required, and not given",
    ]


def test_a_config_is_frozen_and_closed():
    config = Common()
    with pytest.raises(ValidationError):
        config.seed = 1  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValidationError):
        Common.model_validate({"sed": 1})


def test_assignments_are_typed_as_yaml():
    given = [
        "n=8",
        "t=0.7",
        "rate=1.0e-4",
        "deep=true",
        "none=null",
        "url=http://127.0.0.1:1/v1",
        "stop=[a, b]",
        "empty=",
        "revision=2024-99-99",
        "open=[a",
    ]
    assert parse_assignments(given) == {
        "n": 8, "t": 0.7, "rate": 1e-4, "deep": True, "none": None, "url": "http://127.0.0.1:1/v1", "stop": ["a", "b"],
        "empty": None, "revision": "2024-99-99", "open": "[a",
    }  # fmt: skip


@pytest.mark.parametrize("given", ["method", "=3"])
def test_an_assignment_without_key_or_value(given: str):
    with pytest.raises(ParamsError, match=f"--set {given}: expected key=value"):
        parse_assignments([given])


def test_a_number_that_yaml_reads_as_text_is_a_number():
    """PyYAML reads 1e-4, which has no dot, as a text."""
    assert validate(parse_assignments(["temperature=1e-4", "model=m"]), Method)[Method].temperature == 0.0001


@pytest.mark.parametrize("number", [".nan", ".inf", "-.inf"])
def test_a_value_that_is_no_number_is_one_line(number: str):
    with pytest.raises(ParamsError, match=r"^temperature: Input should be a finite number \(got -?(NaN|Infinity)\)$"):
        validate(parse_assignments([f"temperature={number}", "model=m"]), Method)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"traces: {a: [}", "not readable as YAML"),
        (b"\xff\xfe\x00", "not readable as YAML"),
        (b"traces: {model: 2024-99-99}", "not readable as YAML: month must be in 1..12"),
        (b"- a\n- b\n", "expected sections"),
        (b"", "expected sections"),
        (b"1: {a: 2}\n", "expected sections"),
        (b"traces:\n", "traces: expected a mapping"),
        (b"traces: {1: 2}\n", "traces: expected a mapping"),
        (None, "No such file or directory; name a params file with --params"),
    ],
)
def test_a_file_that_holds_no_sections(tmp_path: Path, content: bytes | None, message: str):
    """One line that names the file."""
    file = tmp_path / "params.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParamsError, match=message) as error:
        load_file(file)
    assert str(error.value).startswith(f"{file}: ") and "\n" not in str(error.value)


def test_a_whole_file_is_checked_in_one_report():
    """A stage that does not exist, a method that does not, and wrong values in two sections."""
    problems = check_sections(
        {
            "trases": {},
            "prompts": {"method": "nonesuch"},
            "traces": {"samples_per_prompt": 0, "backend": "scripted"},
            "prompts_heldout": {"method": "user_rows", "max_prompt_chars": -1},
        }
    )
    assert len(problems) == 4
    assert problems[0].startswith("trases: no stage 'trases'; there are ") and "prompts, " in problems[0]
    assert problems[1].startswith("prompts.method: no 'nonesuch' in datagen.prompts; there are ")
    assert problems[2] == "traces.samples_per_prompt: Input should be greater than or equal to 1 (got 0)"
    assert problems[3] == "prompts_heldout.max_prompt_chars: Input should be greater than 0 (got -1)"
