"""What the arguments of every tool are made of, whatever the integration."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

MOST_TEXT_BYTES = 1024 * 1024  # of what one call may say


class Strict(BaseModel):
    """No unknown fields, no guessing between types, no NaN. null means not set."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Arguments(Strict):
    """
    What a caller may say to one tool.

    `refused` names fields that callers know from elsewhere and why there is none here.
    """

    refused: ClassVar[dict[str, str]] = {}

    def body(self) -> dict[str, Any]:
        """The fields that were set, as JSON values under their own names."""
        return self.model_dump(mode="json", exclude_none=True, by_alias=True)
