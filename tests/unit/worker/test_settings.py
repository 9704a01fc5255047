"""Settings are read once, strictly, and every mistake is told at once."""

import functools
import re
from dataclasses import fields
from pathlib import Path

import pytest

from worker import settings
from worker.settings import Settings, SettingsError, describe, from_environ, hide_password


def test_an_empty_environment_gives_the_defaults_and_folders_of_this_user():
    """A worker starts without a single variable."""
    chosen, defaults = from_environ({}), Settings()

    for field in fields(Settings):
        if field.name not in ("model_store", "cache_dir"):
            assert getattr(chosen, field.name) == getattr(defaults, field.name)
    assert chosen.model_store.is_absolute()
    assert chosen.cache_dir is not None
    assert chosen.cache_dir.is_absolute()


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("url", "rediss://:pw@redis.example:6380/2", "rediss://:pw@redis.example:6380/2"),
        ("models", "centerface, blazeface_short,centerface", ("centerface", "blazeface_short")),
        ("model_store", "/srv/models", Path("/srv/models")),
        ("cache_dir", "", None),
        ("cache_dir", "/srv/cache", Path("/srv/cache")),
        ("device", "auto:gpu,cpu", "AUTO:GPU,CPU"),
        ("device", "GPU.1", "GPU.1"),
        ("device", "npu", "NPU"),
        ("device", "MULTI:GPU,CPU", "MULTI:GPU,CPU"),
        ("device", "HETERO:GPU,CPU", "HETERO:GPU,CPU"),
        ("device", "BATCH:CPU(4)", "BATCH:CPU(4)"),
        ("hint", "Latency", "latency"),
        ("streams", "0", 0),
        ("requests", " 8 ", 8),
        ("threads", "2", 2),
        ("precision", "BF16", "bf16"),
        ("precision", "", ""),
        ("pinning", "on", True),
        ("pinning", "No", False),
        ("slice_ms", "0", 0),
        ("decoders", "3", 3),
        ("jobs", "40", 40),
        ("max_pixels", "1000000", 1_000_000),
        ("max_image_bytes", "1048576", 1_048_576),
        ("drain_s", "2.5", 2.5),
        ("remote_control", "off", False),
        ("health_file", "~/health", Path("~/health").expanduser()),
    ],
)
def test_every_setting_is_read_from_its_variable(name, text, value):
    """``FLEET_`` and the field's name in upper case; spaces around a value do not count."""
    assert getattr(from_environ({f"FLEET_{name.upper()}": text}), name) == value


BAD = {
    "FLEET_URL": "amqp://guest:secret@broker",
    "FLEET_MODELS": "centerface,,x",
    "FLEET_MODEL_STORE": "",
    "FLEET_DEVICE": " ",
    "FLEET_HINT": "fast",
    "FLEET_STREAMS": "-1",
    "FLEET_REQUESTS": "many",
    "FLEET_THREADS": "1.5",
    "FLEET_PRECISION": "f8",
    "FLEET_PINNING": "maybe",
    "FLEET_DECODERS": "257",
    "FLEET_JOBS": "",
    "FLEET_MAX_PIXELS": "0",
    "FLEET_MAX_IMAGE_BYTES": "1e9",
    "FLEET_DRAIN_S": "nan",
    "FLEET_HEALTH_FILE": "",
    "FLEET_MODEL_DIR": "/srv",
}


def test_the_url_may_stand_in_a_file(tmp_path):
    """As Docker and Kubernetes mount secrets; the variable itself wins, and a bad file is told like a bad variable."""
    secret = tmp_path / "worker.url"
    secret.write_text("redis://worker:pw@redis:6379/0\n")

    assert from_environ({"FLEET_URL_FILE": str(secret)}).url == "redis://worker:pw@redis:6379/0"
    assert from_environ({"FLEET_URL_FILE": str(secret), "FLEET_URL": "redis://other"}).url == "redis://other"
    with pytest.raises(SettingsError, match="missing"):
        from_environ({"FLEET_URL_FILE": "/missing"})


def test_all_bad_variables_are_told_in_one_error():
    """Whoever writes a compose file mends it once, not seventeen times."""
    with pytest.raises(SettingsError) as caught:
        from_environ(BAD | {"FLEET_CACHE_DIR": "/good", "HOME": "/root"})

    first, *lines = str(caught.value).splitlines()
    assert first == "Bad settings:"
    assert sorted(re.split(r"[=:]", line.strip())[0] for line in lines) == sorted(BAD)
    assert "  FLEET_MODEL_DIR: no such setting" in lines
    assert "  FLEET_STREAMS='-1': expected a whole number from 0 to 1,024" in lines


@pytest.mark.parametrize(
    "url",
    [
        "http://user:secret@host/0",
        "user:secret@host",
        ":secret@host:6379",
        "redis://user:se:cret@host:port/0",
        "redis://host:99999/0?password=secret",
        "unix://user:secret@/run/redis.sock",
    ],
)
def test_a_bad_url_is_told_without_its_password(url):
    """The error stands in a log that many may read."""
    with pytest.raises(SettingsError, match=r"FLEET_URL=.*: expected redis://") as caught:
        from_environ({"FLEET_URL": url})

    assert "cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://127.0.0.1:6379/0", "redis://127.0.0.1:6379/0"),
        ("redis://:secret@host/0", "redis://:***@host/0"),
        ("rediss://user:p@ss:w://ord@host:6380/1", "rediss://user:***@host:6380/1"),
        ("redis://host/0?password=s3cret&x=1", "redis://host/0?password=***&x=1"),
        ("redis://host/0?x=1&password=p@ss", "redis://host/0?x=1&password=***"),
    ],
)
def test_a_password_is_never_shown(url, shown):
    """``fleet-worker doctor`` and the log show the settings, not the secret."""
    assert hide_password(url) == shown
    assert describe(Settings(url=url))["FLEET_URL"] == shown


@pytest.mark.parametrize("cache", ["", "/srv/cache"])
def test_the_description_names_every_variable_as_it_would_be_set(cache):
    """What doctor prints can be copied into a compose file."""
    chosen = from_environ({"FLEET_MODELS": "a,b", "FLEET_PINNING": "on", "FLEET_CACHE_DIR": cache})

    shown = describe(chosen)

    assert set(shown) == {f"FLEET_{field.name.upper()}" for field in fields(Settings)}
    assert from_environ(shown) == chosen


def test_variables_of_the_client_and_of_the_tests_are_not_ours():
    """One shell may have both sides' variables."""
    environ = dict.fromkeys(settings._FOREIGN, "anything") | {"FLEETING": "x", "OTHER_FLEET_X": "y"}

    assert from_environ(environ) == from_environ({})


def test_the_process_s_own_settings_are_read_once(monkeypatch):
    """What changes later in the environment changes nothing: all parts of a worker see one value."""
    monkeypatch.setattr(settings, "load", functools.cache(settings.load.__wrapped__))
    monkeypatch.setenv("FLEET_JOBS", "7")
    first = settings.load()
    monkeypatch.setenv("FLEET_JOBS", "8")

    assert settings.load() is first
    assert first.jobs == 7
