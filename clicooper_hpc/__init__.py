"""Private, pipelined split training on a cluster, as one MPI job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clicooper_hpc.inference.load_model import load_model
    from clicooper_hpc.launch.train import train
    from clicooper_hpc.runstore.reader import open_run

__version__ = "0.1.0"
__all__ = ["__version__", "load_model", "open_run", "train"]


def __getattr__(name: str) -> Any:
    # Reading a run must not cost the import of the rest; resolved on first use.
    if name == "open_run":
        from clicooper_hpc.runstore.reader import open_run

        return open_run
    if name == "load_model":
        from clicooper_hpc.inference.load_model import load_model

        return load_model
    if name == "train":
        from clicooper_hpc.launch.train import train

        return train
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
