"""The URL comes from a variable or a file, says nothing that is not understood, and is shown without its password."""

import ssl
from pathlib import Path

import pytest

from producer import Client, InvalidRequest
from producer.redis_url import DEFAULT_URL, check_url, tls_of, url_of


def test_the_variable_wins_over_the_file_and_both_over_the_default(tmp_path: Path) -> None:
    """Given both, one or none of the variables, then it is clear which counts."""
    secret = tmp_path / "url"
    secret.write_text("redis://producer:pw@host:6379/0\n")
    assert url_of({}) == DEFAULT_URL
    assert url_of({"FLEET_URL_FILE": str(secret)}) == "redis://producer:pw@host:6379/0"
    assert url_of({"FLEET_URL_FILE": str(secret), "FLEET_URL": "redis://other"}) == "redis://other"


def test_a_file_that_cannot_be_read_is_said_so(tmp_path: Path) -> None:
    """Given a file that is not there, or is no text, then the sentence names it."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("missing", "binary"):
        with pytest.raises(InvalidRequest, match=name):
            url_of({"FLEET_URL_FILE": str(tmp_path / name)})


@pytest.mark.parametrize(
    "url",
    [
        "rediss://host/0?ssl_cert_reqs=optional",
        "rediss://host/0?ssl_cert_reqs=requird",
        "rediss://host/0?ssl_ca_cert=/etc/hosts",
        "rediss://host/0?ssl_ca_certs=/no/such/file",
        "rediss://host/0?ssl_check_hostname=false",
        "redis://host/0?ssl_ca_certs=/etc/hosts",
        "redis://host/0?password=s3cret",
        "redis://:s3/cret@host/0",
        "redis://user:s3#cret@host/0",
        "redis://host:port/0",
    ],
)
def test_what_would_be_less_safe_than_it_looks_is_refused_without_showing_a_password(url: str) -> None:
    """Given a misspelt option, one without effect or an unquoted password, then clients and workers say so."""
    with pytest.raises(InvalidRequest) as caught:
        check_url(url)
    assert "cret" not in str(caught.value)
    with pytest.raises(InvalidRequest) as caught:
        Client(url)
    assert "s3" not in str(caught.value)


def test_certificates_are_checked_unless_the_url_says_otherwise(tmp_path: Path) -> None:
    """Given a URL with TLS, then Celery is told so in any case."""
    authority = tmp_path / "ca.crt"
    authority.touch()
    assert tls_of("redis://host/0") is None
    assert tls_of("rediss://host/0") == {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    assert tls_of(check_url(f"rediss://host/0?ssl_ca_certs={authority}")) == {
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
        "ssl_ca_certs": str(authority),
    }
    assert tls_of("rediss://host/0?ssl_cert_reqs=none") == {"ssl_cert_reqs": ssl.CERT_NONE}
