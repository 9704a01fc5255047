"""The Redis URL: where it comes from, what is wrong with it, and how it is shown.

Stage: before any connection, of clients and workers alike. A URL may carry a password, so it is read from the
environment or from a file that only its owner reads, and never shown as it is.
"""

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from producer.errors import InvalidRequest

DEFAULT_URL = "redis://127.0.0.1:6379/0"

#: The URL itself, or a file that holds it, as Docker and Kubernetes mount secrets. The first wins.
URL_VARIABLE = "FLEET_URL"
URL_FILE_VARIABLE = "FLEET_URL_FILE"

#: What a URL may say about TLS, each a path but for the first, which is required (the default) or none.
_CERTIFICATES = "ssl_cert_reqs"
_PATHS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


def url_of(environ: Mapping[str, str] = os.environ) -> str:
    """Return the URL that ``environ`` names, or the default.

    Raises:
        InvalidRequest: the file it names cannot be read.
    """
    if url := environ.get(URL_VARIABLE):
        return url
    if name := environ.get(URL_FILE_VARIABLE):
        try:
            return Path(name).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise InvalidRequest(f"{URL_FILE_VARIABLE}={name!r} cannot be read: {reason}.") from None
    return DEFAULT_URL


def check_url(url: str) -> str:
    """Return ``url`` if its port, and what it says about TLS and passwords, is understood by all parts of the fleet.

    kombu takes a misspelt ``ssl_cert_reqs`` for "check nothing", so nothing unknown may pass.

    Raises:
        InvalidRequest: it is not; the sentence shows nothing of the password.
    """
    if not url.startswith(("redis://", "rediss://")):
        return url  # of another kind, with rules of its own
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - parsed when asked for; its error would show what stands behind the colon
    except ValueError:
        raise InvalidRequest("expected redis://user:password@host:port/number, the password percent-encoded") from None
    query = dict(parse_qsl(parts.query))
    if "password" in query or "username" in query:
        raise InvalidRequest("user and password go before the host: redis://user:password@host:6379/0")
    said = {name: value for name, value in query.items() if name.startswith("ssl_")}
    if said and not url.startswith("rediss://"):
        raise InvalidRequest(f"{next(iter(said))} needs rediss://; redis:// is not encrypted")
    for name, value in said.items():
        if name == _CERTIFICATES:
            if value not in ("required", "none"):
                raise InvalidRequest(f"{_CERTIFICATES} is required or none")
        elif name not in _PATHS:
            raise InvalidRequest(f"{name} is unknown; there are {', '.join((_CERTIFICATES, *_PATHS))}")
        elif not os.access(value, os.R_OK):
            raise InvalidRequest(f"{name}: the file {value} cannot be read")
    return url


def tls_of(url: str) -> dict[str, Any] | None:
    """Give the TLS options of ``url`` as Celery wants them, or None for a URL without TLS.

    They are given even where the URL says nothing, for kombu would then check no certificate.
    """
    if not url.startswith("rediss://"):
        return None
    said = dict(parse_qsl(urlsplit(url).query))
    required = ssl.CERT_NONE if said.get(_CERTIFICATES) == "none" else ssl.CERT_REQUIRED
    return {_CERTIFICATES: required, **{name: said[name] for name in _PATHS if name in said}}


def hide_password(url: str) -> str:
    """Give ``url``, or what was meant to be one, without its password."""
    url = re.sub(r"(?i)\b(password=)[^&]*", r"\1***", url)
    start, at, host = url.rpartition("@")
    scheme = start[: start.find("://") + 3] if "://" in start else ""
    user = start.removeprefix(scheme).partition(":")[0]
    return f"{scheme}{user}:***@{host}" if at else url
