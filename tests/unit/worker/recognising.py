"""What the tests of recognising networks share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from worker import recognise
from worker.models import ModelError

LABELS = ("cat", "dog", "horse", "sheep", "cow")

#: Writes a network as IR, with notes in it if any are given.
Save = Callable[..., Path]


def refused(path: Path, **how: Any) -> str:
    """Give the one line with which a network is refused, or asked about."""
    with pytest.raises(ModelError) as caught:
        recognise.recognise(path, "mine", **how)
    assert "\n" not in str(caught.value)
    return str(caught.value)
