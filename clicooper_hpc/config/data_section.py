"""The section on the owner's data: where they are, how many are used, how values are scaled.

The docstring under each key is its text in the generated reference (docs/job-file.md).
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from clicooper_hpc.config.section import Section

__all__ = ["Constants", "ConstantsSection", "DataSection"]

#: One number for all features or channels, one for each in order, or a table by feature name.
Constants = float | tuple[float, ...] | dict[str, float]


class ConstantsSection(Section):
    """Constants of `data.scaling = "constants"`, as numbers are read (bytes: divided by 255).

    They are public, as the whole job is, and must not be computed from the private data.
    """

    minimum: Constants | None = None
    """Becomes 0: one number for all features, one for each (of images: each channel) in order, or a
    table by the names of the features. Features that are 0 or 1 by construction stay as they are
    and may be left out."""

    maximum: Constants | None = None
    """Becomes 1."""

    mean: Constants | None = None
    """Is subtracted; instead of `minimum`."""

    deviation: Constants | None = None
    """Is divided by; instead of `maximum`."""

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_by_name(cls, value: object) -> object:
        # As of single numbers and lists of them: pydantic takes true for 1.
        if isinstance(value, dict) and any(isinstance(one, bool) for one in value.values()):
            raise ValueError("true or false is given where a number belongs")
        return value


class DataSection(Section):
    """The owner's private data."""

    path: str
    """HDF5 file written by `clicooper data import`, relative to the job file; or `"digits"`, the
    8x8 digits that come with scikit-learn (no download)."""

    train_rows: int | None = Field(default=None, ge=1)
    """Use only the first so many training samples. Default: all."""

    test_rows: int | None = Field(default=None, ge=1)
    """Use only the first so many held-out samples. Default: all."""

    validation_rows: int = Field(default=0, ge=0)
    """Samples taken off the end of the training split and released (and charged) to measure
    accuracy through the pipeline. 0: nothing is released for validation."""

    scaling: Literal["none", "constants", "public"] = "none"
    """How numbers are scaled, feature by feature (of images: channel by channel), before the front.
    `constants`: as `[data.constants]` says. `public`: by mean and deviation of the rows of
    `front.public_data`. Statistics of the private data are never used."""

    constants: ConstantsSection = ConstantsSection()
    """Settings of `scaling = "constants"`."""

    @model_validator(mode="after")
    def _consistent(self) -> DataSection:
        stated = [key for key, value in self.constants if value is not None]
        if self.scaling != "constants":
            if stated:
                raise ValueError('data.constants needs data.scaling = "constants"')
        elif sorted(stated) not in (["maximum", "minimum"], ["deviation", "mean"]):
            raise ValueError(
                'data.scaling = "constants" needs data.constants: minimum and maximum, or mean '
                "and deviation"
            )
        return self
