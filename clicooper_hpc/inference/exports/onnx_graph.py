"""The model as an ONNX graph, for any number of rows; read back with ONNX Runtime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from clicooper_hpc.errors import EnvironmentUnfitError, UsageError
from clicooper_hpc.inference.exports.export_request import MODEL_FORMATS
from clicooper_hpc.inference.exports.output_comparison import compare_outputs
from clicooper_hpc.inference.exports.torch_program import trace_program
from clicooper_hpc.inference.load_model import LoadedModel

__all__ = ["write_onnx_graph"]

_NEEDED = MODEL_FORMATS["onnx"].packages


def write_onnx_graph(model: LoadedModel, path: Path) -> float:
    """Write the graph to ``path`` (.onnx), weights inside; return as `compare_outputs`.

    Its input is called ``raw``, its output ``probabilities``.

    Raises
    ------
    EnvironmentUnfitError
        A package of the extra ``export`` is missing.
    UsageError
        The network has an operation that ONNX does not.
    """
    runtime = _require_packages()
    program = trace_program(model)
    try:
        with _quiet_exporter():
            graph: Any = torch.onnx.export(
                program,
                input_names=["raw"],
                output_names=["probabilities"],
                dynamo=True,
                verbose=False,
            )
            graph.save(path, external_data=False)
    # Whatever its passes meet; torch.onnx has errors of its own and passes on those of others.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise UsageError(
            f"torch.onnx cannot take the network ({reason})",
            where=f"model.name = {model.job.model.name!r}",
            remedy="Export --to torch instead.",
        ) from error
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(rows: Tensor) -> Tensor:
        (probabilities,) = session.run(["probabilities"], {"raw": rows.numpy()})
        return torch.from_numpy(probabilities)

    return compare_outputs(model, run, where=path.name)


def _require_packages() -> Any:
    for name in _NEEDED:
        try:
            found = importlib.import_module(name)
        except ImportError:
            raise EnvironmentUnfitError(
                f"exporting to ONNX needs {', '.join(_NEEDED)}; {name} is not installed",
                remedy="pip install 'clicooper-hpc[export]'",
            ) from None
    return found


@contextlib.contextmanager
def _quiet_exporter() -> Any:
    """Keep torch's notes of what it does and which packages it does without to itself."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
