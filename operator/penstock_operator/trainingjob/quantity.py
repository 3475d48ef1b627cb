"""Kubernetes quantities as exact numbers: `16Gi`, `500m`, `1e9`, 2. Source: apimachinery, pkg/api/resource/quantity.go."""

from __future__ import annotations

import re
from fractions import Fraction

_BINARY = {suffix: 1024**power for power, suffix in enumerate(("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"))}
_DECIMAL = {
    suffix: Fraction(1000) ** power for power, suffix in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
}
_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:([eE][+-]?\d{1,2})|([KMGTPE]i|[numkMGTPE])?)")


def parse(quantity: int | float | str) -> Fraction | None:
    """The amount; None when it is no quantity (the API server refuses that, with the field)."""
    found = _FORM.fullmatch(str(quantity))
    if found is None:
        return None
    number, exponent, suffix = found.groups()
    if exponent:
        return Fraction(number + exponent)
    return Fraction(number) * (_BINARY.get(suffix or "") or _DECIMAL[suffix])


def text(amount: Fraction, unit: str) -> str:
    """For messages: cores as 95.69, memory as 1057.3Gi (`unit` "memory"), anything else as it is."""
    if unit == "memory" or unit.startswith("hugepages-"):
        return f"{float(amount / 2**30):.1f}".removesuffix(".0") + "Gi"
    return f"{float(amount):.2f}".rstrip("0").rstrip(".")
