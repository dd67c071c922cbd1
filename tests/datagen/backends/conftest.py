"""What the tests of backends share: a ledger of their own, a server that answers, and no key of the developer's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from datagen.backends.ledger import Ledger
from tests.chat_server import ChatServer, running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with running() as server:
        yield server


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
