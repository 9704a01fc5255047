"""Flower in a browser: what its tests do there, in the words of a person who clicks."""

import os
from pathlib import Path

from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

#: Pixels of the window; Flower's tables grow no further.
WIDE = 1960

#: Longest wait for something to be on a page.
SEEN_S = 30


class Flower:
    """Flower in the browser: goes to pages, and says what is on them."""

    def __init__(self, browser: Chrome, url: str) -> None:
        self._browser = browser
        self.url = url

    def open(self, path: str) -> None:
        """Go to a page."""
        self._browser.get(self.url + path)

    def shows(self, text: str, where: str = "body") -> None:
        """Wait until some text is on the page."""

        def seen(browser: Chrome) -> bool:
            return any(text in one.text for one in browser.find_elements(By.CSS_SELECTOR, where))

        gone = (StaleElementReferenceException,)
        WebDriverWait(self._browser, SEEN_S, ignored_exceptions=gone).until(seen, f"{text} in {where}")

    def comes_to_show(self, path: str, text: str, where: str = "body") -> None:
        """Load a page until it has the text: what it shows follows the workers' events."""

        def seen(browser: Chrome) -> bool:
            self.open(path)
            return any(text in one.text for one in browser.find_elements(By.CSS_SELECTOR, where))

        WebDriverWait(self._browser, SEEN_S).until(seen, f"{text} in {where} of {path}")

    def click(self, selector: str) -> None:
        """Click what is there and can be clicked."""
        WebDriverWait(self._browser, SEEN_S).until(
            lambda browser: any(one.is_displayed() for one in browser.find_elements(By.CSS_SELECTOR, selector)),
            selector,
        )
        self._browser.find_element(By.CSS_SELECTOR, selector).click()

    def fill(self, selector: str, text: str) -> None:
        """Write into a field."""
        field = self._browser.find_element(By.CSS_SELECTOR, selector)
        field.clear()
        field.send_keys(text)

    def says(self, text: str) -> None:
        """Wait for a message that came after a click, and close it."""
        self.shows(text, "#toast-container .toast")
        for close in self._browser.find_elements(By.CSS_SELECTOR, "#toast-container .btn-close"):
            self._browser.execute_script("arguments[0].click()", close)
        WebDriverWait(self._browser, SEEN_S).until(
            lambda browser: not browser.find_elements(By.CSS_SELECTOR, "#toast-container .toast")
        )

    def picture(self, name: str, *, highest: int = 1600) -> None:
        """Keep the whole page, where pictures are wanted (TEST_SCREENSHOTS); nothing on it may be cut off.

        The list of tasks scrolls sideways by itself where names or results are long. A traceback scrolls in its box;
        for the picture the box grows, since its last line is the one that matters.
        """
        self._browser.execute_script(
            "document.querySelectorAll('pre, .detail-code').forEach(one => one.style.maxHeight = 'none')"
        )
        self._browser.set_window_size(WIDE, 700)
        high = self._browser.execute_script("return document.body.scrollHeight + window.outerHeight - innerHeight")
        self._browser.set_window_size(WIDE, min(high, highest))
        cut = self._browser.execute_script(
            "return [...document.querySelectorAll('html, table:not(#tasks-table)')]"
            ".map(one => one.parentElement || one).filter(one => one.offsetWidth"
            " && one.scrollWidth > one.clientWidth + 1).map(one => one.outerHTML)"
        )
        assert cut == [], f"{name} is cut off"
        if folder := os.environ.get("TEST_SCREENSHOTS"):
            self._browser.save_screenshot(str(Path(folder) / f"flower-{name}.png"))
