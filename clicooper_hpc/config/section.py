"""Base class of all sections of the job file: frozen values, no unknown keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

__all__ = ["Section"]


class Section(BaseModel):
    """One table of the job file. Unknown keys are errors, values never change after loading."""

    # No number of a job may be infinite: none could be computed with.
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        # pydantic takes true for 1: a seed or a count so written is a mistake.
        given = value if isinstance(value, list) else [value]
        field = cls.model_fields[info.field_name or ""]
        if field.annotation is not bool and any(isinstance(item, bool) for item in given):
            raise ValueError(f"{str(value).lower()} is given where no true or false belongs")
        return value
