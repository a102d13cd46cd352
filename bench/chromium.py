"""A real browser, for benchmarks and tests."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HELP = "This needs Chromium: install it (Debian: apt-get install chromium), or set CHROMIUM to its path."


class NoChromium(Exception):
    """There is no Chromium on this machine; the message says what to do."""


@contextmanager
def chromium() -> Iterator[Browser]:
    """Run a Chromium within the block. Raises NoChromium."""
    with sync_playwright() as playwright:
        found = _find(playwright.chromium.executable_path)
        # Chromium's own sandbox does not run as root.
        browser = playwright.chromium.launch(executable_path=found, args=[] if os.geteuid() else ["--no-sandbox"])
        yield browser
        browser.close()


def _find(packaged: str) -> str:
    """Look where .ci/chromium looks."""
    if chosen := os.environ.get("CHROMIUM"):
        return chosen
    found = next(filter(None, map(shutil.which, NAMES)), packaged)
    if not Path(found).exists():
        raise NoChromium(HELP)
    return found
