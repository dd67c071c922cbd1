"""A Hub on loopback, and small datasets to push there."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import huggingface_hub.constants
import pytest

from datagen.contracts.dataset import DatasetWriter
from datagen.contracts.records import Document, Rejection
from tests.datagen.publish.projects import make_project
from tests.hub_server import HubServer, running


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets and what they were made of, made once a file."""
    root = tmp_path_factory.mktemp("project")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTILL_HOME", str(root / "home"))
        make_project(root)
    (root / "dvc.yaml").write_text("stages: {}\n")
    return root


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[HubServer]:
    """A server without repositories, with a token that may write to `org`; what is kept is under `tmp_path`."""
    constants = huggingface_hub.constants
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setenv("HF_TOKEN", "hf_writes")
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    with running() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def write_documents(
    path: Path, ids: list[str], *, rejected: int = 3, manifest: Mapping[str, object] | None = None
) -> Path:
    """A dataset of Documents, each text another paragraph, with so many rejections."""
    with DatasetWriter(path, Document, {"stage": "filter", "inputs": {}, "params": {}, **(manifest or {})}) as writer:
        for id in ids:
            writer.read()
            words = [hashlib.sha256(f"{id}{i}".encode()).hexdigest() for i in range(8)]
            writer.write(Document(id=id, text=" ".join(words), domain="x"))
        for i in range(rejected):
            writer.read()
            writer.reject(Rejection(id=f"r{i}", stage="filter", reason="too_long", detail=f"{i} words too many"))
    return path
