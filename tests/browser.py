"""A real browser at the page: Chromium of this machine, driven by Playwright; screenshots are kept as artifacts."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from tests.engines import ROOT

SCREENSHOTS = ROOT / ".screenshots"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
SIZE: ViewportSize = {"width": 1280, "height": 800}
"""What the page has to do with."""
DEADLINE_MS = 60_000

_AXE = Path(axe_playwright_python.__file__).parent / "axe.min.js"
_RULES = """() => axe.run(document, {
    runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"], resultTypes: ["violations"],
})"""

Scheme = Literal["light", "dark"]


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start the browser of this machine; tests that need one are skipped where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no browser is installed; `make browser` installs one")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A person's tab, and all that went wrong in it."""

    page: Page
    url: str
    problems: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    """Requests to other hosts."""

    def open(self, view: str = "") -> None:
        """Open a view of the page, as `#/new`."""
        self.page.goto(f"{self.url}/{view}")
        self.page.locator("main h1").wait_for()

    def keep_screenshot(self, name: str) -> Path:
        """Keep what is seen now."""
        SCREENSHOTS.mkdir(exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        self.page.screenshot(path=path)
        return path

    def check_accessibility(self) -> None:
        """Have axe look at what is seen now, and accept nothing that it calls serious or critical."""
        self.page.evaluate(_AXE.read_text())
        found: dict[str, Any] = self.page.evaluate(_RULES)
        serious = [
            f"{one['id']} ({one['impact']}): {node['html'][:200]}: {node['failureSummary']}"
            for one in found["violations"]
            if one["impact"] in {"serious", "critical"}
            for node in one["nodes"]
        ]
        assert serious == []


@contextmanager
def visit(browser: Browser, url: str, scheme: Scheme = "light") -> Iterator[Visit]:
    """Visit the page in a tab of its own, which must neither fail nor load anything from elsewhere."""
    context = browser.new_context(viewport=SIZE, color_scheme=scheme, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(DEADLINE_MS)
    found = Visit(page, url)
    page.on("pageerror", lambda error: found.problems.append(str(error)))
    page.on("console", lambda message: found.problems.append(message.text) if _is_problem(message.text) else None)
    page.on("request", lambda sent: None if sent.url.startswith((url, "blob:")) else found.foreign.append(sent.url))
    try:
        yield found
        assert found.problems == []
        assert found.foreign == []
    finally:
        context.close()


def _is_problem(text: str) -> bool:
    """Whether a message of the browser tells of a mistake in the page; that the API refuses things is none."""
    return "Content Security Policy" in text or "Uncaught" in text
