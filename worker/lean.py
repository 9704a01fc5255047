"""A process of ours starts with less: what it imports is not searched for garbage, and OpenVINO's converter stays out.

Stage: at the beginning of :mod:`worker.entry`. What a module defines stays for as long as the process lives; Python's
collector looked through it again and again, a fifth to a quarter of the time. ``openvino`` imports its model converter
where it can be imported, and does without where not. We convert nothing, and it is a tenth of a second, and a message
to OpenVINO's makers over the network.

Mirrors OpenVINO 2026 ``openvino/__init__.py``.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

_CONVERTER = "openvino.tools.ovc"


@contextmanager
def lean() -> Iterator[None]:
    """Import in the block what stays. The converter may be imported by name afterwards."""
    modules = cast("dict[str, Any]", sys.modules)
    was_enabled, is_ours = gc.isenabled(), _CONVERTER not in modules
    if is_ours:
        modules[_CONVERTER] = None
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
        if is_ours:
            modules.pop(_CONVERTER, None)
