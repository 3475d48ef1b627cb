"""Logs to standard output: one JSON object a line, or text for people. Keys never hold secrets; bodies are never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_KINDS = ("trainingjob", "lustrevolume")
"""Extra fields of a record: namespace and name of the object that it is about."""


class JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {kind: found for kind in _KINDS if (found := getattr(record, kind, None))}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        about = next((found for kind in _KINDS if (found := getattr(record, kind, None))), None)
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S.%f")[:-3]
        text = f"{moment} {record.levelname:<7} {record.name}: {f'{about}: ' if about else ''}{record.getMessage()}"
        return text + ("\n" + self.formatException(record.exc_info) if record.exc_info else "")


def configure(form: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # kopf tells of every watched object at info; what happens to jobs is told by our own events.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # When it is stopped in a busy moment it lists every object it was still watching, in one line.
    logging.getLogger("kopf._core.reactor.queueing").setLevel(logging.ERROR)
    for noisy in ("asyncio", "boto3", "botocore", "urllib3"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
