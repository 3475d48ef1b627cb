"""`python -m penstock_serving`: read the settings, serve until stopped. Exit code 0 after SIGTERM, 1 otherwise."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from dataclasses import MISSING, fields

from penstock_serving import logs, settings


def main() -> None:
    """Entry point of the serving image."""
    variables = "\n".join(
        f"  {settings.variable(field.name):<34} {'required' if field.default is MISSING else f'default {field.default!r}'}"
        for field in fields(settings.Settings)
    )
    parser = argparse.ArgumentParser(
        prog="python -m penstock_serving",
        description="Serves one model. Everything is set by environment variables:",
        epilog=variables,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("serve", nargs="?", choices=["serve"], help="SageMaker starts containers with this word")
    parser.parse_args()
    try:
        found = settings.load()
    except settings.SettingsError as error:
        sys.exit(f"penstock-serving: {error}")
    logs.configure(found.log_format, found.log_level)
    import uvloop  # after the arguments: --help and a wrong setting need no seconds of imports

    from penstock_serving import app
    from penstock_serving.model import ModelError

    code = 0
    try:
        uvloop.run(app.run(found))
    except (ModelError, OSError) as error:
        logging.getLogger("penstock").error("%s", error)
        code = 1
    # The inference thread may be inside torch: what an interpreter does at its end would wait for it or crash under it.
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
