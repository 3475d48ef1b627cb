"""`python -m penstock_local.aws --host 127.0.0.1 --port 0 --state DIR` serves until SIGTERM."""

from __future__ import annotations

import argparse
import os
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m penstock_local.aws", description="A fake AWS; state is in memory.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--state", type=Path, required=True, help="folder for the files of the file systems")
    parser.add_argument("--end-with-stdin", action="store_true", help="end when standard input does, as when the parent dies")
    chosen = parser.parse_args()
    # Read by moto when it is imported. Without it a host name such as aws.penstock.svc would be taken for bucket "aws".
    os.environ["S3_IGNORE_SUBDOMAIN_BUCKETNAME"] = "true"
    from penstock_local.aws.server import serve

    serve(chosen.host, chosen.port, chosen.state, end_with_stdin=chosen.end_with_stdin)


if __name__ == "__main__":
    main()
