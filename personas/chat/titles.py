"""What a chat is called until its member says otherwise: the first words of what began it. Pure."""

import re
import unicodedata

LONGEST = 60  # characters
OF_TEMPORARY = "Temporary chat"  # says nothing of what is talked about
FENCED = re.compile(r"^(```|~~~).*?^\1[`~]*\s*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[([^\]\n]{0,200})\]\([^)\n]{0,2000}\)")
ADDRESS = re.compile(r"https?://(?:www\.)?([^/\s?#]{1,100})\S{0,2000}")
MARKS = re.compile(r"^[ \t]*(?:#{1,6}|>|[-*+]|\d{1,3}[.)])[ \t]+", re.MULTILINE)
STRONG = re.compile(r"(?<!\d)(\*\*|~~)(?=\S)([^\n*~]{1,500})(?<=\S)\1(?!\d)")  # also in the middle of a word
EMPHASIS = re.compile(
    r"(?<![\w*_`~])[*_`~]{1,6}(?=[^\s*_`~])|(?<=[^\s*_`~])[*_`~]{1,6}(?![\w*_`~])"
    r"|^[ \t]*[*_`~]{2,6}(?!\S)|(?<!\S)[*_`~]{2,6}[ \t]*$",
    re.MULTILINE,
)
SENTENCE = re.compile(r"(?<=[^\s.][.!?。！？])(?:\s|(?<=[。！？]))")
JOINERS = {"\u200c", "\u200d"}  # they join letters and emoji
READ = 4000  # characters; whoever pastes a book is asking something before or after it


def of_text(text: str) -> str:
    """
    Return a title for a chat that began with this: plain text of one line, empty where nothing was said.

    Markdown, addresses and characters that hide or reorder text are left out.
    """
    text = text[:READ]
    words = _plain(FENCED.sub(" ", text)) or _plain(text)
    first = SENTENCE.split(words, maxsplit=1)[0]
    chosen = first if len(first) >= LONGEST // 4 else words
    return _cut(chosen)


def _plain(text: str) -> str:
    text = LINK.sub(r"\1", ADDRESS.sub(r"\1", text) if "](" not in text else text)
    text = EMPHASIS.sub("", STRONG.sub(r"\2", MARKS.sub("", text)))
    return " ".join(filter(None, ("".join(map(_visible, word)) for word in text.split())))


def _visible(character: str) -> str:
    if character in JOINERS:
        return character
    return "" if unicodedata.category(character)[0] == "C" else character


def _cut(words: str) -> str:
    if len(words) <= LONGEST:
        return words
    whole = words[:LONGEST].rpartition(" ")[0]
    return (whole if len(whole) > LONGEST // 2 else words[: LONGEST - 1]).rstrip(" ,;:-") + "…"
