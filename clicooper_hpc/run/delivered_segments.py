"""The delivered segments of a finished run, read from its folder into the ordered network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from clicooper_hpc.config.job import Job
from clicooper_hpc.errors import EvidenceError, RunFolderError
from clicooper_hpc.owner.delivery import delivery_file
from clicooper_hpc.provenance.tensor_digest import digest_tensors
from clicooper_hpc.run.build import build_layout, build_network
from clicooper_hpc.runstore.reader import Run
from clicooper_hpc.runstore.regular_files import read_regular_file
from clicooper_hpc.runstore.safetensors_files import unpack_safetensors
from clicooper_hpc.training.contract import Contract

__all__ = ["load_delivered_segments", "recorded_cuts"]


def recorded_cuts(run: Run) -> list[int]:
    """Return the first layer of every segment but the first."""
    return [int(cut) for cut in run.pipeline["cuts"][1:]]


def load_delivered_segments(
    run: Run, job: Job, contract: Contract, *, roots: Sequence[str] | None = None
) -> Sequence[nn.Sequential]:
    """Return the delivered segments in order, in evaluation mode.

    Parameters
    ----------
    job
        Of the run, vouched for: a network of the user's own is imported and built.
    roots
        Tensor digests (hex) of the segments that were signed; None: they are not compared.

    Raises
    ------
    RunFolderError
        A file is missing, damaged or not the ordered segment.
    EvidenceError
        A file does not hold what was signed.
    """
    cuts = recorded_cuts(run)
    model = build_network(job, contract)
    layout = build_layout(job.cut_at(cuts), model, contract, len(cuts) + 1)
    found = []
    for number in range(1, len(cuts) + 2):
        layers = layout.layers_of(model, number - 1)
        path = delivery_file(run.folder.delivery, number)
        try:
            content = read_regular_file(path, within=run.folder.path)
        except OSError as error:
            raise RunFolderError(
                f"the delivered segment cannot be read ({error.strerror})",
                where=str(path),
                remedy="Bring back the file the run wrote.",
            ) from error
        # Before anything is made of them.
        if roots is not None and digest_tensors(content).hex != roots[number - 1]:
            raise EvidenceError(
                "these are not the weights that the owner signed as delivered",
                where=str(path),
                remedy="Bring back the file the run wrote; see `clicooper verify`.",
            )
        state = unpack_safetensors(content, where=str(path))
        try:
            # The file may be a segment of another run: names and shapes would differ.
            layers.load_state_dict(state)
        except RuntimeError as error:
            raise RunFolderError(
                f"this is not segment {number} of the run's network",
                where=str(path),
                remedy="Bring back the file the run wrote.",
            ) from error
        found.append(layers.eval())
    return found
