"""Oracle: rejections written by hand."""

from pathlib import Path

from datagen.comparison.teachers import unanswered
from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Rejection, Trace


def test_attempts_without_an_answer_whatever_their_prompt_s_id(tmp_path: Path):
    """An id may hold the mark itself, a point or the end of a line; a lost request is no attempt."""
    ids = {"p#1#0.0123abcd": "empty_answer", "a.b\nc#12.0123abcd": "reasoning_only", "q#0.0123abcd": "http_500"}
    with DatasetWriter(tmp_path / "t", Trace, {"stage": "traces"}) as writer:
        for id, reason in ids.items():
            writer.read()
            writer.reject(Rejection(id=id, stage="traces", reason=reason, detail="nothing"))
    assert unanswered(tmp_path / "t") == [("p#1", 0), ("a.b\nc", 12)]
