"""The page of the FastAPI example: a photo is chosen, and its boxes are shown where they belong."""

import os
import sys
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from tests.e2e.kit import FACE, answers, running
from worker.valkey import free_port


def test_the_page_shows_the_box_on_the_photo(
    browser: Chrome,
    faces: str,
    samples: Path,
    tmp_path: Path,
) -> None:
    """Given the page, when a photo is chosen, then its box is drawn over the face; a bad file is told in its place."""
    address = f"127.0.0.1:{free_port()}"
    host, port = address.split(":")
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--host", host, "--port", port]
    with running(command, faces, lambda: answers(f"http://{address}/"), tmp_path / "log"):
        browser.get(f"http://{address}/")
        assert browser.title == "Faces on photos"
        upload = browser.find_element(By.ID, "photo")

        upload.send_keys(str(samples / "grace_hopper.jpg"))
        WebDriverWait(browser, 30).until(lambda seen: seen.find_elements(By.CSS_SELECTOR, "#boxes rect"))
        if folder := os.environ.get("TEST_SCREENSHOTS"):
            browser.save_screenshot(str(Path(folder) / "page.png"))
        (box,) = browser.find_elements(By.CSS_SELECTOR, "#boxes rect")
        photo = browser.find_element(By.ID, "shown")
        scale = photo.rect["width"] / 512
        left, top = box.rect["x"] - photo.rect["x"], box.rect["y"] - photo.rect["y"]
        assert (left / scale, top / scale) == pytest.approx(FACE[:2], abs=14)
        assert len(browser.find_elements(By.CSS_SELECTOR, "#rows tr")) == 1
        assert browser.find_element(By.ID, "status").text.startswith("1 found in ")

        (tmp_path / "bad.jpg").write_text("not a photo")
        upload.send_keys(str(tmp_path / "bad.jpg"))
        WebDriverWait(browser, 30).until(lambda seen: seen.find_element(By.ID, "status").get_attribute("class"))
        assert "JPEG" in browser.find_element(By.ID, "status").text
        assert not photo.is_displayed()
        assert [
            line for line in browser.get_log("browser") if line["level"] == "SEVERE" and "422" not in line["message"]
        ] == []
