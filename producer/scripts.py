"""Lua scripts, called by their digest: a script of some kilobytes need not travel with every job.

Stage: beside :mod:`producer.steps`. A server that was restarted does not know the digest; it is told the text once.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

#: What a command of Redis is made of.
Value: TypeAlias = str | bytes | int | float

Command: TypeAlias = tuple[Value, ...]

_texts: dict[Value, str] = {}


def digest_of(text: str) -> str:
    """Return what Redis calls the script ``text``, which may be called from now on."""
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    _texts[digest] = text
    return digest


def call(digest: str, keys: Sequence[str], args: Iterable[Value]) -> Command:
    """Give the command that runs a script."""
    return ("EVALSHA", digest, len(keys), *keys, *args)


def spelled_out(commands: Iterable[Command]) -> tuple[Command, ...]:
    """Give the same commands with the texts of scripts, which the server then knows."""
    return tuple(("EVAL", _texts[one[1]], *one[2:]) if one[0] == "EVALSHA" else one for one in commands)
