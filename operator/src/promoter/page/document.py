"""The frame of all pages: head, landmarks, and what the script needs."""

from __future__ import annotations

from promoter.page.html import Content, Html, element, join
from promoter.page.pieces import utc


def document(title: str, heading: Content, main: Html, now: float, *, root: str, events: str | None) -> str:
    """Return a whole page.

    Args:
        title: Of the browser's tab.
        heading: What the header says, with the page's h1.
        main: The picture.
        now: When the picture was made, in seconds since 1970.
        root: The path of the pages, without a slash at the end.
        events: The path of the picture's events, None if it has none.
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", type="image/svg+xml", href=f"{root}/-/icon.svg"),
        element("link", rel="stylesheet", href=f"{root}/-/page.css"),
        element("script", src=f"{root}/-/page.js", defer=True) if events else None,
    )
    live = element("span", f"As of {utc(now)}", id="live", class_="live")
    body = element(
        "body",
        element("a", "Skip to the content", href="#main", class_="skip"),
        element("header", element("div", heading, class_="title"), live),
        element("main", main, id="main", tabindex="-1"),
        element("p", id="announcer", class_="unseen", role="status", aria_live="polite"),
        data_events=events,
    )
    return f"<!doctype html>\n{element('html', join(head, body), lang='en')}\n"


def picture(content: Content, now: float, announcement: str) -> Html:
    """Return what an event replaces: the picture, when it was made, and what a screen reader says if that changed."""
    return element("div", content, id="picture", data_now=f"{1000 * now:.0f}", data_announcement=announcement)
