"""Validation of names and messages."""

import unicodedata

NAME_RULE = "a name has 1 to 32 characters"
BODY_RULE = "a message is a text of 1 to 2000 characters"


def name_in(given: object) -> str | None:
    """Normalizes a name to one line with single spaces. None if it breaks the rule."""
    if not isinstance(given, str):
        return None
    return within(" ".join("".join(" " if is_control(c) else c for c in given).split()), 32)


def body_in(given: object) -> str | None:
    """Trims a message and removes control characters. None if it breaks the rule."""
    if not isinstance(given, str):
        return None
    return within("".join(c for c in given.strip() if c == "\n" or not is_control(c)), 2000)


def is_control(c: str) -> bool:
    return unicodedata.category(c) == "Cc"


def within(text: str, max_length: int) -> str | None:
    return text if 1 <= len(text) <= max_length else None
