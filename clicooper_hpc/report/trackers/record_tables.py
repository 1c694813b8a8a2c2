"""A run as tables in a folder: comma-separated text or Parquet, and the privacy card as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from clicooper_hpc.report.trackers.optional_package import import_package
from clicooper_hpc.report.trackers.run_record import RunRecord
from clicooper_hpc.runstore.hdf5.files import Attribute
from clicooper_hpc.runstore.tables.schema import Column, Table

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["value_text", "write_csv_tables", "write_parquet_tables"]

_CARD: Final = "privacy-card.txt"
_ABOUT_COLUMNS: Final = ("table", "column", "dtype", "units", "long_name")
_RANK: Final = Column("rank", "int64", "1", "Rank: 0 owner, then trainers")


def write_csv_tables(record: RunRecord, folder: Path) -> None:
    """Write every table of ``record`` as ``NAME.csv``; numbers in digits that bring them back.

    What is no number is an empty cell.
    """
    for name, frame in _frames(record).items():
        frame.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    _write_card(record, folder)


def write_parquet_tables(record: RunRecord, folder: Path) -> None:
    """Write every table of ``record`` as ``NAME.parquet``; fields carry units and long names.

    Raises
    ------
    EnvironmentUnfitError
        pyarrow is not installed.
    """
    arrow = import_package("pyarrow", "parquet", extra="tables")
    parquet = import_package("pyarrow.parquet", "parquet", extra="tables")
    for name, frame in _frames(record).items():
        stored = arrow.Table.from_pandas(frame, preserve_index=False)
        known = {column.name: column for column in _columns(record, name)}
        fields = [
            field.with_metadata({"units": about.units, "long_name": about.long_name})
            if (about := known.get(field.name))
            else field
            for field in stored.schema
        ]
        schema = arrow.schema(fields, metadata=stored.schema.metadata)
        parquet.write_table(stored.cast(schema), folder / f"{name}.parquet")
    _write_card(record, folder)


def _frames(record: RunRecord) -> dict[str, pd.DataFrame]:
    import pandas as pd

    rows = [
        (name, column.name, column.dtype, column.units, column.long_name)
        for name in record.tables
        for column in _columns(record, name)
    ]
    results = _values({one.name: one.value for one in record.results})
    results["units"] = [one.units for one in record.results]
    results["long_name"] = [one.long_name for one in record.results]
    return {
        "run": _values({"name": record.name, **record.about}),
        "params": _values(record.params),
        "results": results,
        "privacy": _values(record.privacy),
        **{name: frame for name, (_, frame) in record.tables.items()},
        "proofs": record.proofs,
        "columns": pd.DataFrame(rows, columns=list(_ABOUT_COLUMNS)),
        "gaps": pd.DataFrame({"gap": list(record.gaps)}, dtype=object),
    }


def _values(values: Mapping[str, Attribute]) -> pd.DataFrame:
    """Return names and values as text and, of numbers, as numbers."""
    import pandas as pd

    return pd.DataFrame(
        {
            "name": pd.Series(list(values), dtype=object),
            "value": pd.Series([value_text(value) for value in values.values()], dtype=object),
            "number": pd.Series([_number(value) for value in values.values()], dtype="float64"),
        }
    )


def value_text(value: Attribute) -> str:
    """Return a value as the job file spells it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(value: Attribute) -> float | None:
    return None if isinstance(value, (bool, str)) else float(value)


def _columns(record: RunRecord, name: str) -> Iterable[Column]:
    if name not in record.tables:
        return ()
    table: Table = record.tables[name][0]
    return (_RANK, *table.columns)


def _write_card(record: RunRecord, folder: Path) -> None:
    if record.card:
        (folder / _CARD).write_text(record.card, encoding="utf-8")
