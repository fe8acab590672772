"""HTML from functions: text is escaped unless it is HTML already, so that no value can become markup."""

from __future__ import annotations

import html
from collections.abc import Iterable
from typing import TypeAlias

_VOID = frozenset({"link", "meta", "rect", "circle", "line", "polyline", "polygon"})


class Html(str):
    """Markup; made by this module alone."""

    __slots__ = ()


Content: TypeAlias = "str | int | Iterable[Content] | None"


def text(value: object) -> Html:
    """Return a value as markup; signs that are not printed, such as those that reverse text, become visible."""
    shown = str(value)
    if not shown.isprintable():
        shown = "".join(sign if sign.isprintable() or sign == "\n" else "\ufffd" for sign in shown)
    return Html(html.escape(shown))


def element(tag: str, /, *content: Content, **attributes: str | int | bool | None) -> Html:
    """Return an element.

    Args:
        tag: Its name.
        content: Markup, text, or several of both; None is left out.
        attributes: By name, with `_` for `-` and one at the end ignored, as in `class_`. None and False are left out.
    """
    opened = "".join(_attribute(key, value) for key, value in attributes.items() if value not in {None, False})
    if tag in _VOID:
        return Html(f"<{tag}{opened}/>")
    return Html(f"<{tag}{opened}>{join(*content)}</{tag}>")


def join(*content: Content) -> Html:
    """Return markup and text one after the other."""
    return Html("".join(_flat(content)))


def _flat(content: Content) -> Iterable[str]:
    if content is None:
        return
    if isinstance(content, Html):
        yield content
    elif isinstance(content, str | int):
        yield text(content)
    else:
        for part in content:
            yield from _flat(part)


def _attribute(key: str, value: str | int | bool | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{text(value)}"'
