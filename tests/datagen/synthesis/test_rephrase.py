"""Oracles: the source's own characters, put together again from the spans."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datagen.backends.base import Completion, Failure, Outcome, Request, Sampling
from datagen.contracts.records import Document
from datagen.synthesis.flow import Flow, Setting, Written, run_flows
from datagen.synthesis.rephrase import STYLES, Config, pieces, rephrase

TEXT = "The mill stands by the river. Its wheel turns all day. " * 4 + "\n\n" + "At night it rests. " * 3


def write(config: Config, finish_reason: str = "stop") -> tuple[list[Written], list[str]]:
    asked: list[str] = []

    def generate(requests: Iterable[Request]) -> Iterator[Outcome]:
        for request in requests:
            asked.append(request.messages[0].get("content") or "")
            answer = Completion(text=f"text {len(asked)}", finish_reason=finish_reason)
            is_table = "Markdown table" in asked[-1]
            yield Outcome(
                request=request, key=b"", answer=Failure(reason="http_500", detail="no") if is_table else answer
            )

    async def start(source: Document, flow: Flow) -> list[Document]:
        return await rephrase(config, source, flow)

    setting = Setting(stage="corpus", sampling=Sampling(), teacher="t")
    return list(run_flows(start, [Document(id="mill", text=TEXT)], generate, setting)), asked


def test_every_piece_in_every_style_with_its_span():
    (written,), asked = write(Config(method="rephrase", max_piece_chars=120))
    spans = {row.id: TEXT[row.start : row.end] for row in written.tables["spans"]}
    n_pieces = len(asked) // len(STYLES)
    assert n_pieces > 2 and len(asked) == n_pieces * len(STYLES)
    rows = [row for row in written.rows if isinstance(row, Document)]
    kept = [style for style in STYLES if style != "table"]
    assert [row.id for row in rows] == [f"mill/{i}/{style}" for i in range(n_pieces) for style in kept]
    assert {row.source for row in rows} == {"mill"} and set(spans) == {row.id for row in rows}
    for row in rows:  # what was asked about is what the span says
        assert f">>>\n{spans[row.id]}\n<<<END" in asked[int(row.text.split()[1]) - 1]
    assert [row.id for row in written.rejections] == [f"mill/{i}/table" for i in range(n_pieces)]


def test_a_cut_answer_is_dropped():
    (written,), _ = write(Config(method="rephrase", styles=("tutorial",)), finish_reason="length")
    assert [(row.id, row.reason) for row in written.rejections] == [("mill/0/tutorial", "cut_off")]


@given(st.text(alphabet="ab .!?\n", max_size=400), st.integers(min_value=1, max_value=60))
def test_pieces_are_the_text(text: str, max_chars: int):
    found = list(pieces(text, max_chars))
    assert all(0 < end - start <= max_chars and text[start:end].strip() for start, end in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(found))
    covered = {i for start, end in found for i in range(start, end)}
    assert not "".join(text[i] for i in range(len(text)) if i not in covered).strip()


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("One two. Three four. Five", [9, 21, 25]),  # at a sentence
        ("one two three four five six", [8, 19, 27]),  # at a space
        ("onetwothreefourfivesix", [12, 22]),  # nowhere
    ],
)
def test_where_a_piece_ends(text: str, ends: list[int]):
    assert [end for _, end in pieces(text, 12)] == ends
