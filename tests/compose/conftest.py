"""The whole stack in containers, on a real engine.

Where no engine answers nothing here is collected: ``tests/e2e/test_docs.py`` reads the same pages, and types all that
needs none. Port 6379 and 5555 of 127.0.0.1 must be free: the pages name them.
"""

import subprocess


def engine_answers() -> bool:
    """Tell whether containers can be started here."""
    try:
        return all(
            subprocess.run(["docker", *words], capture_output=True, timeout=20, check=False).returncode == 0
            for words in (["info"], ["compose", "version"])
        )
    except (OSError, subprocess.TimeoutExpired):
        return False


collect_ignore_glob = [] if engine_answers() else ["test_*.py"]
