"""The words that OpenRouter's argument models share: exact types beside the strict base of all integrations."""

import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from integrations.arguments import Arguments as Arguments
from integrations.arguments import Strict as Strict
from integrations.invalid import refuse


class Media(Strict):
    """A part that is not text: the model reads its content, our text limit does not count it."""

    def content_bytes(self) -> int:
        """How many bytes of this part are content carried along, as base64."""
        raise NotImplementedError

    def most_tokens(self) -> int:
        """How many tokens a model may be billed for reading it, at most."""
        raise NotImplementedError


def media_in(value: Any) -> Iterator[Media]:
    """Every media part inside a value, at any depth."""
    if isinstance(value, Media):
        yield value
    if isinstance(value, BaseModel):
        value = [held for _, held in value]
    if isinstance(value, list):
        for held in value:
            if isinstance(held, BaseModel | list):  # most are texts and nothings, and every call is looked through
                yield from media_in(held)


# A decimal number as people write one. Python's own Decimal would also read "1_000", " 1" and "１".
_DECIMAL = re.compile(r"[0-9]{1,12}(\.[0-9]{1,18})?")


def _plain_decimal(value: Any) -> Decimal:
    text = format(Decimal(repr(value)), "f") if type(value) in (int, float) else value
    if isinstance(text, Decimal):
        return text
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text):
        raise refuse("This must be a decimal number of 0 or more.", 'Write it in quotes, for example "0.50".')
    return Decimal(text)


Amount = Annotated[
    Decimal,
    BeforeValidator(_plain_decimal),
    PlainSerializer(lambda amount: format(amount, "f"), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DECIMAL.pattern}$", "examples": ["0.50"]}),
]
"""Dollars or a price, never a float inside our code."""

_CATALOG_ID = r"~?[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.:-]*"
_PRESET = r"@preset/[A-Za-z0-9_.-]+"
ModelId = Annotated[
    str,
    Field(
        max_length=200,
        pattern=rf"^({_CATALOG_ID}({_PRESET})?|{_PRESET})$",
        examples=["openai/gpt-oss-20b", "meta-llama/llama-3.3-70b-instruct:free", "~anthropic/claude-sonnet-latest"],
    ),
]
CatalogId = Annotated[
    str,
    Field(max_length=200, pattern=rf"^{_CATALOG_ID}$", examples=["openai/gpt-oss-20b"]),
]
ModelPattern = Annotated[str, Field(max_length=200, pattern=r"^[~A-Za-z0-9_.:/*-]+$", examples=["anthropic/*"])]
ProviderSlug = Annotated[
    str,
    Field(max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._/&()-]*$", examples=["google-vertex", "deepinfra/fp4"]),
]
AuthorSlug = Annotated[str, Field(max_length=100, pattern=r"^~?[A-Za-z0-9_.-]+$", examples=["openai"])]
Domain = Annotated[
    str,
    Field(max_length=253, pattern=r"^[A-Za-z0-9*]([A-Za-z0-9.*-]*[A-Za-z0-9])?(/[^\s]*)?$", examples=["example.com"]),
]
FunctionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$", examples=["look_up_order"])]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Text = Annotated[str, Field(min_length=1)]
JsonSchema = dict[str, Any]

Effort = Literal["max", "xhigh", "high", "medium", "low", "minimal", "none"]
Verbosity = Literal["low", "medium", "high", "xhigh", "max"]

# Pictures, sounds and files come from an https address that the provider fetches, or travel inside the call.
HTTPS = r"https://[^\s]{1,2048}"
BASE64 = r"[A-Za-z0-9+/]+={0,2}"


class CacheControl(Strict):
    """Marks the end of what the provider may cache."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None
