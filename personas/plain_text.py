"""Which characters a text may hold that models, logs and other people's screens get to see."""

import re

# C0 and C1 but for tab and line ends, and DEL: they move cursors, colour terminals and break files.
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
NO_LINE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def problem_of_text(text: str) -> str:
    """Say which control character must go from a text of many lines; empty when there is none."""
    return _problem(CONTROL.search(text))


def problem_of_line(text: str) -> str:
    """Say which control character, or end of a line, must go from a text of one line; empty when there is none."""
    return _problem(NO_LINE.search(text))


def _problem(found: re.Match[str] | None) -> str:
    return (
        f"Character {found.start() + 1:,} is a control character, which nobody can see. Take it out." if found else ""
    )
