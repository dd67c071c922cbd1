"""What the repository promises of itself; oracles: its own source files, read as text and as syntax."""

import ast
import importlib
import inspect
import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Any, get_args

import grimp
import pytest

from datagen.contracts.stage import find_methods
from datagen.listing import find_families

ROOT = Path(__file__).parents[1]
FILES = sorted(
    file.relative_to(ROOT)
    for package in ("datagen", "condense", "trainers", "tests", "benchmarks")
    for file in (ROOT / package).rglob("*.py")
)
METHODS = [(family, name) for family in find_families() for name in find_methods(family)]
PROTOCOLS = {
    "condense.coresets": ("condense.coresets", "CoresetMethod"),
    "condense.experts": ("condense.experts", "ExpertMethod"),
    "condense.graph_sources": ("condense.graph_sources", "GraphSourceMethod"),
    "condense.graphs": ("condense.graphs", "GraphsMethod"),
    "condense.images": ("condense.images", "ImagesMethod"),
    "condense.nets": ("condense.nets", "Net"),
    "condense.sources": ("condense.sources", "SourceMethod"),
    "datagen.backends": ("datagen.backends.base", "OpenTextBackend"),
    "datagen.domains": ("datagen.domains", "DomainsMethod"),
    "datagen.filter": ("datagen.filter", "FilterMethod"),
    "datagen.mixture": ("datagen.mixture", "MixRule"),
    "datagen.narratives": ("datagen.narratives", "NarrativesMethod"),
    "datagen.prompts": ("datagen.prompts", "PromptsMethod"),
    "datagen.select": ("datagen.select", "SelectMethod"),
    "datagen.signals": ("datagen.signals", "SignalMethod"),
    "datagen.synthesis": ("datagen.synthesis", "SynthesisMethod"),
    "datagen.traces": ("datagen.traces", "TraceMethod"),
    "datagen.verify": ("datagen.verify", "VerifyMethod"),
    "trainers.methods.graph": ("trainers.methods.graph", "NodeMethod"),
    "trainers.graph_nets": ("trainers.graph_nets", "GraphLayer"),
    "trainers.objectives": ("trainers.objectives", "Objective"),
    "trainers.teachers": ("trainers.teachers", "TeacherMethod"),
}
# Modules that work on tensors; every other one must be importable where the extra `lm` is not installed.
TENSOR_MODULES = {
    "condense.condensed", "condense.condensed_graphs", "condense.embedding", "condense.experts._descent",
    "condense.experts._penalty", "condense.experts._sharpness", "condense.experts._training",
    "condense.graph_coresets", "condense.graph_embedding", "condense.graphs._ranking", "condense.graphs.byte_budget",
    "condense.graphs.computation_trees", "condense.graphs.itemsets", "condense.graphs.sharding",
    "condense.images._aligned", "condense.images._characteristic", "condense.images._embedding",
    "condense.images._learning", "condense.images._matching", "condense.images._patches", "condense.nets",
    "condense.pixels.augmentation", "condense.pixels.transform", "condense.pyg", "condense.quantisation",
    "condense.trajectories", "datagen.agreement.figures", "datagen.agreement.statistics", "datagen.backends.decoding",
    "datagen.backends.embeddings", "datagen.backends.neighbours", "datagen.backends.scoring",
    "datagen.contracts._planetoid", "datagen.extraction.calibration", "datagen.extraction.embedding_match",
    "datagen.extraction.judging", "datagen.extraction.matching", "datagen.extraction.string_match",
    "datagen.contracts.graph_folders", "datagen.contracts.graphs", "datagen.contracts.images",
    "datagen.contracts.node_graphs", "datagen.contracts.signal_columns", "datagen.contracts.sparse_rows",
    "datagen.contracts.tensors", "datagen.filter._candidates", "datagen.filter._shingles",
    "datagen.signals._distillkit", "datagen.signals._entries", "trainers.batches", "trainers.bootstrap",
    "trainers.chunk_likelihoods", "trainers.predictions",
    "trainers.class_figures", "trainers.classifier", "trainers.comparison", "trainers.comparison_figures",
    "trainers.draft_models", "trainers.drafts",
    "trainers.graph_batches", "trainers.graph_bench", "trainers.graph_figures", "trainers.graph_nets",
    "trainers.hacking.departure", "trainers.hacking.figures", "trainers.hacking.tabular",
    "trainers.kept_outcomes", "trainers.lm_comparison_figures", "trainers.methods.graph._terms",
    "trainers.node_nets", "trainers.objectives",
    "trainers.image_bench", "trainers.linear_loss", "trainers.protocol_figures", "trainers.signals",
    "trainers.language_models", "trainers.lm_loss", "trainers.sampling", "trainers.server_rollouts",
    "trainers.teachers._token_signals",
    "trainers.text_pairs",
}  # fmt: skip

WITHOUT_TORCH = """
import importlib, sys
absent = {
    "torch", "transformers", "datasets", "accelerate", "safetensors", "gguf", "llguidance", "pyarrow", "numpy", "dvc",
    "trl",
}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
for name in sys.argv[1:]:
    importlib.import_module(name)
"""


def module_name(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def test_every_family_has_its_protocol():
    assert set(find_families()) == set(PROTOCOLS)


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_a_method_has_the_family_s_signature(family: str, name: str):
    """Same parameters in the same order as the Protocol; an objective may take more, by name only."""
    module, protocol = PROTOCOLS[family]
    wanted = list(inspect.signature(getattr(importlib.import_module(module), protocol).__call__).parameters)[1:]
    method = getattr(importlib.import_module(f"{family}.{name}"), name)
    parameters = inspect.signature(method).parameters
    assert list(parameters)[: len(wanted)] == wanted
    assert all(one.kind is one.KEYWORD_ONLY for one in list(parameters.values())[len(wanted) :])


@pytest.mark.parametrize(
    ("family", "name"), [(f, n) for f, n in METHODS if f.startswith(("datagen.", "condense.")) and f != "condense.nets"]
)
def test_a_method_has_a_config_that_names_it(family: str, name: str):
    """`method: Literal["name"]`, so that a manifest says which method made it."""
    key = {"datagen.backends": "backend", "datagen.mixture": "mixture"}.get(family, "method")
    config: Any = importlib.import_module(f"{family}.{name}").Config
    assert get_args(config.model_fields[key].annotation) == (name,)
    assert config.model_config["frozen"] and config.model_config["extra"] == "forbid"


@pytest.mark.parametrize(("family", "name"), METHODS)
def test_a_method_cites_its_source_and_has_a_test_and_a_row(family: str, name: str):
    """An arXiv number, or a line `Source:` where there is no paper."""
    path = f"{family.replace('.', '/')}/{name}.py"
    docstring = ast.get_docstring(ast.parse((ROOT / path).read_text())) or ""
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|^Source: ", docstring, re.MULTILINE), "cites nothing"
    assert (ROOT / "tests" / Path(path).with_name(f"test_{name}.py")).exists()
    assert f"`{path}`" in (ROOT / "docs" / "methods.md").read_text()
    family_docstring = ast.get_docstring(ast.parse((ROOT / family.replace(".", "/") / "__init__.py").read_text())) or ""
    assert re.search(rf"^{name} ", family_docstring, re.MULTILINE), "the family's __init__ has no line for it"


def test_methods_of_a_family_do_not_know_each_other():
    """But for the one that chooses among them row by row, and the one that starts the server which another asks."""
    graph = grimp.build_graph("datagen", "condense", "trainers")
    modules = {f"{family}.{name}" for family, name in METHODS}
    known = {
        (method, other)
        for method in modules
        for other in graph.find_modules_directly_imported_by(method) & modules
        if method.rpartition(".")[0] == other.rpartition(".")[0]
    }
    assert {method for method, _ in known} <= {
        "datagen.verify.by_row", "datagen.backends.vllm_server", "datagen.backends.batch_api"
    }  # fmt: skip


@pytest.mark.parametrize("file", FILES, ids=str)
def test_a_file_is_short_and_finished(file: Path):
    text = (ROOT / file).read_text()
    assert len(text.splitlines()) <= 500
    names = {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}
    assert "NotImplementedError" not in names
    comments = [
        token.string for token in tokenize.generate_tokens(io.StringIO(text).readline) if token.type == tokenize.COMMENT
    ]
    assert not [comment for comment in comments if re.search(r"\b(TODO|FIXME|XXX)\b", comment)]
    assert file.stem not in {"utils", "helpers", "common", "core"}


def test_an_init_holds_no_logic():
    """A docstring, imports for a Protocol, and Protocols or records: nothing that runs."""
    for file in FILES:
        if file.name == "__init__.py" and file.parts[0] in ("datagen", "condense", "trainers"):
            body = ast.parse((ROOT / file).read_text()).body
            for node in [node for node in body if isinstance(node, ast.If)]:  # imports that types alone need
                assert (ast.unparse(node.test), node.orelse) == ("TYPE_CHECKING", []), file
                body.remove(node)
                body += node.body
            allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.ClassDef, ast.Assign, ast.AnnAssign)
            assert all(isinstance(node, allowed) for node in body), file


def test_the_core_needs_no_torch():
    """Every module that works on no tensors is imported in a process where no package of an extra can be."""
    names = [module_name(file) for file in FILES if file.parts[0] in ("datagen", "condense", "trainers")]
    torchless = [name for name in names if not any(name == t or name.startswith(f"{t}.") for t in TENSOR_MODULES)]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *torchless], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
