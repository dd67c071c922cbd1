"""A language model that trains in a second, and rows for it."""

import json
from pathlib import Path

import pytest

from tests.tiny_model import write_tiny_model

CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ':' + m['content'] + '</s>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant:' }}{% endif %}"
)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The random model of a few thousand weights, with a template that ends each turn; 1 is the end."""
    folder = write_tiny_model(tmp_path_factory.mktemp("tiny"))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    return folder


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Twelve rows whose answers repeat the digit that the prompt names; lengths differ."""
    rows = [
        {"id": f"row-{i}", "prompt": f"say {'very ' * (i % 3)}{i % 10}", "completion": str(i % 10) * (1 + i % 4)}
        for i in range(12)
    ]
    file = tmp_path / "traces.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file
