"""How much one model call may carry, and the most tokens it can be billed for."""

import json
from typing import TYPE_CHECKING, Any

from integrations.arguments import MOST_TEXT_BYTES
from integrations.invalid import refuse
from integrations.openrouter.arguments.base import Arguments, media_in

if TYPE_CHECKING:
    from integrations.openrouter.arguments.chat import ChatArguments
    from integrations.openrouter.arguments.message import MessageArguments

MIB = 1024 * 1024
TEXT_LIMIT_TEXT = "The text of one call may be up to 1 MiB."

# Without an upper limit OpenRouter holds back the price of the model's longest answer (402 on a small balance).
DEFAULT_OUTPUT_TOKENS = 1024
MOST_OUTPUT_TOKENS = 131_072

# The most a model is known to count for one picture, and for content whose length cannot be seen from here.
PICTURE_TOKENS = 16_384
OPEN_ENDED_TOKENS = 1_000_000
# A document carried along: text packs to a tenth at best, and makes a token of some four bytes.
DOCUMENT_TOKENS_PER_CHARACTER = 2
# What providers add on their own around a conversation, and around tools.
FRAME_TOKENS = 256
TOOLS_FRAME_TOKENS = 1_024


def text_bytes(arguments: Arguments) -> int:
    """The size of everything but pictures, sounds and files, as UTF-8 JSON."""
    text = json.dumps(arguments.body(), ensure_ascii=False)
    return len(text.encode()) - sum(media.content_bytes() for media in media_in(arguments))


def check_text_size(arguments: Arguments, *, at: str) -> None:
    """Refuse a call whose text is over the limit."""
    if text_bytes(arguments) > MOST_TEXT_BYTES:
        raise refuse(
            "The text of this call is over the limit of 1 MiB.",
            "Shorten it, or split the work over several calls.",
            at=at,
        )


def most_tokens_in(arguments: "ChatArguments | MessageArguments") -> int:
    """
    At most how many tokens of input one exchange is billed for.

    No tokenizer makes more tokens than there are bytes. Files and films, whose length cannot be
    seen from here, and what server tools fetch, count with a fixed allowance each.
    """
    media = sum(part.most_tokens() for part in media_in(arguments))
    fetched = sum(_reads(extra) for extra in [*(arguments.tools or ()), *(arguments.plugins or ())])
    frame = FRAME_TOKENS + (TOOLS_FRAME_TOKENS if arguments.tools else 0)
    return text_bytes(arguments) + frame + media + fetched


def document_tokens(characters: int) -> int:
    """At most how many tokens a document makes that is so many characters of base64, unless it is packed tighter."""
    return min(OPEN_ENDED_TOKENS, max(PICTURE_TOKENS, characters * DOCUMENT_TOKENS_PER_CHARACTER))


def _reads(extra: Any) -> int:
    return getattr(extra, "reads", 0)
