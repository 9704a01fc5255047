"""Docstrings name things by Sphinx's roles; the site shows the last part of the name."""

import re
from typing import Any

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):<code>(?:[\w.]*\.)?(\w+)</code>")


def on_page_content(html: str, **_: Any) -> str:
    """Take the roles out of a finished page."""
    return ROLE.sub(r"<code>\1</code>", html)
