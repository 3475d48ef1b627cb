"""Small HTML pages for the pipeline's UI: one file, plots inline as SVG, no script, nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import matplotlib
from matplotlib.figure import Figure

_STYLE: Final = (
    "body{font:14px/1.5 system-ui,sans-serif;margin:2em auto;max-width:60em;color:#222}"
    "table{border-collapse:collapse;margin:1em 0}th,td{padding:.25em .8em;border-bottom:1px solid #ddd;text-align:right}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%}"
)


def page(title: str, *parts: str) -> str:
    """A whole page; `parts` are HTML, made by the functions below. The title is text."""
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f"<!doctype html><html><head>{head}</head><body><h1>{html.escape(title)}</h1>{''.join(parts)}</body></html>\n"


def heading(text: str) -> str:
    return f"<h2>{html.escape(text)}</h2>"


def paragraph(text: str) -> str:
    return f"<p>{html.escape(text)}</p>"


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; floats get four digits."""
    head = "".join(f"<th>{html.escape(each)}</th>" for each in headings)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(text(each))}</td>" for each in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def facts(values: Mapping[str, object]) -> str:
    """A table of names and values."""
    return table(["", ""], values.items())


def plot(figure: Figure, description: str) -> str:
    """A matplotlib figure as an inline image; the same figure gives the same bytes."""
    data = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "penstock"}):
        figure.savefig(data, format="svg", bbox_inches="tight", metadata={"Date": None})
    encoded = base64.b64encode(data.getvalue()).decode()
    return f'<p><img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{encoded}"></p>'


def text(value: object) -> str:
    """A value as people read it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
