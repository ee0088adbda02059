"""What axe-core finds on a page, and a walk through it by keyboard alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["faults", "walk"]

GRAVE = ("serious", "critical")

WHERE = """() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const named = one.getAttribute("aria-labelledby");
  const label = one.getAttribute("aria-label") || (named && document.getElementById(named)?.innerText)
    || one.labels?.[0]?.innerText || one.innerText || one.getAttribute("title") || "";
  return label.trim().split("\\n")[0];
}"""


def faults(page: Page) -> list[str]:
    """The serious and critical faults, each with where it is and why."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']} at {node['target']}: {node['failureSummary']}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


def walk(page: Page, most: int = 60) -> list[str]:
    """The names of all that Tab leads to from the top of the page on, in order, until it leaves the page."""
    page.evaluate("() => { document.activeElement?.blur(); getSelection()?.removeAllRanges(); }")
    page.locator("body").evaluate(
        "body => { body.tabIndex = -1; body.focus(); body.removeAttribute('tabindex'); }"
    )
    names: list[str] = []
    for _ in range(most):
        page.keyboard.press("Tab")
        name = page.evaluate(WHERE)
        if name is None:
            break
        names.append(name)
    return names
