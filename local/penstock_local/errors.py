"""The one error a user of this package sees: what was needed, what was found, what to do."""

from __future__ import annotations


class LocalError(RuntimeError):
    """Something on this machine is missing or did not start. The message is complete; no traceback is needed."""
