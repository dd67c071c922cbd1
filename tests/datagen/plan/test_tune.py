"""A real server on loopback; oracles: its own log, its usage, and the latency that it was told to have."""

import json
from pathlib import Path

import pytest

from datagen.cli import main
from tests import chat_server

LATENCY_S = 0.05


def write_prompts(folder: Path, n: int = 8) -> Path:
    """Half of them can be answered right: the server repeats what it is asked."""
    rows = [
        {
            "id": f"p{i}", "prompt": f"fox {i}",
            "constraints": [{"id": "keywords:existence", "kwargs": {"keywords": ["fox" if i % 2 else "zebra"]}}],
        }
        for i in range(n)
    ]  # fmt: skip
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_grid_is_measured_cell_by_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """3 tokens an answer, half of them verified; one request at a time gives at most 3 tokens each latency."""
    with chat_server.running() as server:
        server.latency_s = LATENCY_S
        code = main([
            "plan", "--tune", "--base-url", server.base_url, "--model", "m", "--prompts", str(write_prompts(tmp_path)),
            "--concurrency", "1", "8", "--choices", "1", "4", "--prompts-a-cell", "4", "--samples", "4",
            "--price-per-hour", "3600", "--out", str(tmp_path / "tune.json"),
        ])  # fmt: skip
        n_requests, peak = server.n_requests, server.peak
    assert code == 0
    told = json.loads((tmp_path / "tune.json").read_text())
    grid = [(cell["concurrency"], cell["choices_per_request"]) for cell in told["cells"]]
    assert grid == [(1, 1), (1, 4), (8, 1), (8, 4)]
    repeated = [cell.get("prompts_repeated") for cell in told["cells"]]
    assert repeated == [None, 1, 4, 4]  # of 8 prompts; the last one warmed the server up
    assert n_requests == 1 + 2 * (16 + 4) and peak == 8  # the first warms up
    for cell in told["cells"]:
        assert (cell["answers"], cell["failed"], cell["completion_tokens"]) == (16, 0, 48)
        assert (cell["verified_answers"], cell["verified_tokens"]) == (8, 24)
        n_flights = 16 / cell["choices_per_request"] / cell["concurrency"]
        assert cell["completion_tokens_per_second"] <= 48 / (LATENCY_S * max(1, n_flights)) * 1.05
        assert cell["cost"] == pytest.approx(cell["seconds"], abs=2e-3)  # 1 a second
        assert cell["cost_per_million_verified_tokens"] == pytest.approx(cell["cost"] / 24 * 1e6)
    assert told["best"]["concurrency"] == 8
    assert str(told["best"]["cost_per_million_verified_tokens"]) in capsys.readouterr().out


def test_drafts_are_counted_where_the_server_counts_them(tmp_path: Path):
    """The counters move by 10 drafted and 7 kept tokens a look; two engines add up."""
    with chat_server.running() as server:
        looks = iter(range(100))

        def move() -> None:
            n = next(looks)
            server.metrics = "".join(
                f'vllm:spec_decode_num_{what}_tokens_total{{engine="{engine}"}} {amount * n / 2}\n'
                for what, amount in (("draft", 10), ("accepted", 7))
                for engine in (0, 1)
            )

        server.fault = lambda body, n: move()
        code = main([
            "plan", "--tune", "--base-url", server.base_url, "--model", "m", "--prompts", str(write_prompts(tmp_path)),
            "--concurrency", "2", "--prompts-a-cell", "4", "--samples", "1", "--out", str(tmp_path / "tune.json"),
        ])  # fmt: skip
    assert code == 0
    (cell,) = json.loads((tmp_path / "tune.json").read_text())["cells"]
    assert cell["drafts_accepted_share"] == 0.7
    assert "cost" not in cell


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--samples", "2", "--choices", "4"], 2, "--choices: 4 answers cannot share a request where a prompt gets 2"),
        (["--concurrency", "0"], 2, "--concurrency: expected at least 1 (got 0)"),
        (["--verify", "method=judge"], 2, "asks a model of its own"),
        (["--model", "unknown"], 4, "has no model 'unknown'"),
        (["--base-url", "http://127.0.0.1:9/v1"], 4, "127.0.0.1:9"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: list[str], code: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    with chat_server.running() as server:
        server.fault = lambda body, n: (
            chat_server.reply({"error": {"message": "no such model"}}, 404) if body["model"] == "unknown" else None
        )
        given = ["--base-url", server.base_url, "--model", "m", "--prompts", str(write_prompts(tmp_path)), *arguments]
        try:
            got = main(["plan", "--tune", *given])
        except SystemExit as error:
            got = error.code
    assert (got, said in capsys.readouterr().err) == (code, True)


def test_without_a_server_nothing_is_measured(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--tune", "--model", "m"]) == 2
    assert "--base-url URL" in capsys.readouterr().err
