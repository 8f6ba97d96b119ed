"""The types that both training configurations share."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
InputSize = Annotated[int, Field(ge=32, le=1024)]  # pixels
PositiveFloat = Annotated[float, Field(gt=0)]
NonNegativeFloat = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Betas = tuple[BelowOne, BelowOne]
Optimizer = Literal["adamw", "sgd"]
Precision = Literal["no", "bf16", "fp16"]

# A frozen dataclass whose values are checked strictly: an unknown field or a value of another type is an error.
configuration = dataclass(
    frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
)
