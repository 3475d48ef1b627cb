"""Logs to standard output: one JSON object a line, or text for people. Requests and their contents are never logged."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"time": moment, "level": record.levelname.lower(), "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(form: str, level: str) -> None:
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_Json() if form == "json" else logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # boto3 tells that it found credentials, and torch at every start that there is no triton: on a CPU there is none.
    logging.getLogger("botocore").setLevel(logging.WARNING)
    logging.getLogger("torch.utils.flop_counter").disabled = True
