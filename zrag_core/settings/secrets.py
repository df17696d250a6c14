"""Values that may be secrets, which people paste into the wrong field; they are not repeated."""

from __future__ import annotations

import re

_KEY = re.compile(
    r"\b(?:sk|pk|rk)-[\w-]{8,}|\bhf_\w{16,}|\bgh[pousr]_\w{16,}|\bxox[a-z]-[\w-]{8,}|\b(?:AKIA|AIza)[\w-]{12,}"
)
# Long, with letters and digits mixed, and no words.
_RANDOM = re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{24,}(?![\w-])", re.ASCII)
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_SECRET_NAME = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD)S?(?:_|$)", re.IGNORECASE)


def is_key(text: str) -> bool:
    """Whether `text` holds a key as services hand them out."""
    return _KEY.search(text) is not None


def may_be_secret(text: str) -> bool:
    """Whether `text` holds a key, credentials, or what looks like random characters."""
    return any(pattern.search(text) for pattern in (_KEY, _CREDENTIALS, _RANDOM))


def names_secret(variable: str) -> bool:
    """Whether an environment variable's name says that it holds a secret."""
    return _SECRET_NAME.search(variable) is not None
