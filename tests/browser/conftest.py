"""What a person sees, in a real headless Chromium.

Where there is none (``apt install chromium-driver``) nothing here is collected; the same promises without a screen are
tested in tests/e2e.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

collect_ignore_glob = [] if CHROMIUM and DRIVER else ["test_*.py"]


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    """A browser with a profile of its own."""
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for word in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1000,1300",
    ):
        options.add_argument(word)
    options.add_argument(f"--user-data-dir={tmp_path / 'profile'}")
    driver = Chrome(options, ChromeService(DRIVER))
    yield driver
    driver.quit()
