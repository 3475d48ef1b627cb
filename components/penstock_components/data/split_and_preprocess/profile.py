"""One HTML page about a dataset, in itself complete: classes per split, values of the arrays, examples, equal images.

Numbers are gathered while the arrays pass by; of the images only thumbnails of the first few of each class are kept.
"""

from __future__ import annotations

import base64
import html
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .images import Array
from .split import Sample

EXAMPLES: Final = 4
CLASSES: Final = 30
THUMBNAIL: Final = (96, 96)

_STYLE = """body{font:15px sans-serif;margin:2em;max-width:70em}table{border-collapse:collapse}
td,th{border:1px solid #ccc;padding:.3em .7em;text-align:right}th:first-child{text-align:left}img{margin:2px}"""


class Profile:
    """Gathers what the page shows, one array at a time."""

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = classes
        # split -> channel -> [values, sum, sum of squares, least, most]; float64 holds 1e9 values to 7 digits
        self._values: dict[str, dict[int, list[float]]] = defaultdict(dict)
        self._examples: dict[int, list[str]] = defaultdict(list)

    def add(self, split: str, label: int, image: Image.Image, array: Array) -> None:
        """Take one sample in. Arrays with three axes count by channel (first axis), others as a whole."""
        for channel, part in enumerate(array if array.ndim == 3 else array[None]):
            values = np.asarray(part, dtype=np.float64)
            now = self._values[split].setdefault(channel, [0.0, 0.0, 0.0, np.inf, -np.inf])
            sums = [now[0] + values.size, now[1] + float(values.sum()), now[2] + float(np.square(values).sum())]
            self._values[split][channel] = [*sums, min(now[3], float(values.min())), max(now[4], float(values.max()))]
        if label < CLASSES and len(self._examples[label]) < EXAMPLES:
            self._examples[label].append(_thumbnail(image))

    def html(self, counts: Mapping[str, Mapping[str, int]], equal: Sequence[Sequence[Sample]]) -> str:
        """The page, from samples per split and class, and the groups of equal images."""
        total = sum(sum(of.values()) for of in counts.values())
        body = [
            f"<h1>{total} samples, {len(self.classes)} classes</h1>",
            _table(["class", *counts], [[name, *(of[name] for of in counts.values())] for name in self.classes]),
            _bars(self.classes, counts),
            "<h2>Values of the arrays</h2>",
            _table(["split", "channel", "values", "mean", "standard deviation", "least", "most"], self._rows()),
            "<h2>Examples</h2>",
        ]
        for label, pictures in sorted(self._examples.items()):
            images = "".join(f'<img src="data:image/png;base64,{data}" alt="">' for data in pictures)
            body.append(f"<h3>{html.escape(self.classes[label])}</h3><p>{images}</p>")
        body.append(f"<h2>Equal images: {len(equal)} sets</h2><p>Each set is in one split.</p>")
        body += [f"<p>{'<br>'.join(html.escape(str(sample.record)) for sample in group)}</p>" for group in equal[:100]]
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Dataset</title><style>{_STYLE}</style>'
        return "\n".join([head, *body, "</html>"])

    def _rows(self) -> list[list[object]]:
        rows: list[list[object]] = []
        for split, channels in self._values.items():
            for channel, (count, total, squares, least, most) in channels.items():
                mean = total / count
                deviation = max(squares / count - mean**2, 0.0) ** 0.5
                rows.append([split, channel, int(count), *(f"{value:.4g}" for value in (mean, deviation, least, most))])
        return rows


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def row(cells: Sequence[object], first: str, rest: str) -> str:
        tags = [first, *[rest] * (len(cells) - 1)]
        return "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for tag, cell in zip(tags, cells, strict=True))

    lines = [row(head, "th", "th"), *(row(cells, "th", "td") for cells in rows)]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def _bars(classes: Sequence[str], counts: Mapping[str, Mapping[str, int]]) -> str:
    figure = Figure(figsize=(8, 1 + 0.3 * len(classes)), layout="constrained")
    axes = figure.subplots()
    start = np.zeros(len(classes))
    for split, of in counts.items():
        width = np.array([of[name] for name in classes], dtype=float)
        axes.barh(range(len(classes)), width, left=start, label=split)
        start += width
    axes.set_yticks(range(len(classes)), [name.replace("$", r"\$") for name in classes])
    axes.invert_yaxis()
    axes.set_xlabel("samples")
    axes.legend()
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "penstock"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _thumbnail(image: Image.Image) -> str:
    small = image.convert("RGB")
    small.thumbnail(THUMBNAIL)
    buffer = io.BytesIO()
    small.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()
