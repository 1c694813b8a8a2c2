"""Predict new samples with the model of a run, into a file; what `clicooper predict` does."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from clicooper_hpc.data.output_place import refuse_output_in_source
from clicooper_hpc.errors import DataError
from clicooper_hpc.inference.load_model import LoadedModel
from clicooper_hpc.inference.prediction_files import open_prediction_file
from clicooper_hpc.inference.predictor import Predictor
from clicooper_hpc.inference.sample_source import open_sample_source
from clicooper_hpc.progress.progress_line import ProgressLine

__all__ = ["PredictionSummary", "predict_samples"]


@dataclass(frozen=True, slots=True)
class PredictionSummary:
    """Rows predicted; of those with a label how many rightly, wrongly, of unknown classes.

    ``other_scale``: how the rows differ in scale from those trained on, if they plainly do.
    ``unused_columns``: of a table, those that the model takes nothing of.
    """

    rows: int
    right: int
    wrong: int
    unknown: int
    other_scale: str | None
    unused_columns: tuple[str, ...] = ()


def predict_samples(
    model: LoadedModel,
    source: str | Path,
    output: Path,
    *,
    kind: str | None = None,
    split: str = "test",
    size: int | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> PredictionSummary:
    """Predict all samples of ``source`` and write ``output``, which appears when it is complete.

    Samples are read, answered and written as a stream: memory does not grow with their number.
    Parameters and errors as `open_sample_source` and `open_prediction_file`; ``quiet``: show no
    progress.

    Raises
    ------
    DataError
        Besides, samples are of another shape or range than those of the run, or ``output`` is or
        lies in ``source``.
    """
    names = model.classifier.class_names
    samples = open_sample_source(
        source, model.classifier, kind=kind, split=split, size=size, table=model.input.table
    )
    if os.path.exists(source):
        refuse_output_in_source(Path(source), output)
    progress = ProgressLine("rows predicted:", samples.rows, quiet=quiet)
    with progress, open_prediction_file(output, names, samples.files, overwrite=overwrite) as file:
        predictor = Predictor(model, split, file, where=str(source), on_rows=progress.advance)
        label_names = samples.feed(predictor)
        predictor.finish()
        if not predictor.rows:
            raise DataError("holds no sample", where=str(source))
    compared = predictor.compare_labels(label_names)
    return PredictionSummary(predictor.rows, *compared, predictor.other_scale(), samples.unused)
