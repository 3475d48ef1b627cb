"""What a caller of the server is told: an HTTP status and one sentence. Both protocols answer {"error": "..."}."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is not answered with a prediction.

    `retry_after`: seconds after which trying again makes sense, None where it makes none.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


def bad(message: str) -> RequestError:
    """400: the request itself is wrong."""
    return RequestError(400, message)
