"""A user's file through the stage itself: `datastill prompts --raw FILE --set method=user_rows`."""

import json
import subprocess
import sys
from pathlib import Path

import polars as pl

ROWS = [
    {"prompt": "How many legs has a cow?", "answer": "4", "info": {"level": 1}},
    {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Good day"}]},
    {"id": "mine", "messages": [{"role": "user", "content": "Name a bird."}], "family": "birds"},
    {"id": "empty", "prompt": "  "},
]


def prompts(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "datagen.stages.prompts", "--out", "out", "--set", "method=user_rows", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_every_format_becomes_prompts_and_every_row_is_accounted_for(tmp_path: Path):
    """By hand: three formats that people have, and one row without text."""
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = prompts(tmp_path, "max_rejected_share=0.25", "--raw", "mine.jsonl")
    assert done.returncode == 0, done.stderr
    kept = pl.read_parquet(tmp_path / "out" / "part-*.parquet")
    assert [messages[-1]["content"] for messages in kept["messages"].to_list()] == [
        "How many legs has a cow?",
        "Hello",
        "Name a bird.",
    ]
    assert kept["reference"].to_list() == ["4", None, None]
    assert json.loads(kept["info"][0]) == {"level": 1}
    assert kept["id"][2] == "mine"
    assert kept["source"].to_list() == ["mine.jsonl:1", "mine.jsonl:2", "mine.jsonl:3"]
    rejected = pl.read_parquet(tmp_path / "out" / "rejections.parquet")
    assert rejected["id"].to_list() == ["empty"]
    assert rejected["reason"].to_list() == ["empty_prompt"]
    assert rejected["detail"][0].startswith("mine.jsonl:4: ")


def test_too_many_bad_rows_stop_the_stage_in_one_line(tmp_path: Path):
    """One of four is above the default bound of 5 %."""
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    done = prompts(tmp_path, "--raw", "mine.jsonl")
    assert done.returncode == 3
    assert "mine.jsonl:4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_missing_file_is_named(tmp_path: Path):
    assert "--raw FILE.jsonl" in prompts(tmp_path).stderr
    assert "nothing.jsonl: no such file" in prompts(tmp_path, "--raw", "nothing.jsonl").stderr
