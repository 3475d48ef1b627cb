"""`penstock-operator`: read the settings, run until stopped. Exit code 0 after SIGTERM, 1 otherwise."""

from __future__ import annotations

import argparse
import logging
import sys
from dataclasses import fields

import uvloop

from penstock_operator import settings as settings_module
from penstock_operator.cloud.catalogue import CatalogueError
from penstock_operator.credentials import CredentialsError
from penstock_operator.runtime import logs
from penstock_operator.runtime.lease import LostLease


def main() -> None:
    """Entry point of the operator's image."""
    variables = "\n".join(
        f"  PENSTOCK_{field.name.upper():<34} default {field.default!r}" for field in fields(settings_module.Settings)
    )
    parser = argparse.ArgumentParser(
        prog="penstock-operator",
        description="Reconciles TrainingJobs. Everything is set by environment variables:",
        epilog=variables,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.parse_args()
    try:
        settings = settings_module.load()
    except settings_module.SettingsError as error:
        sys.exit(f"penstock-operator: {error}")
    logs.configure(settings.log_format, settings.log_level)
    from penstock_operator import app  # after the arguments: --help needs no half second of imports

    try:
        uvloop.run(app.run(settings))
    except (CatalogueError, CredentialsError, LostLease) as error:
        logging.getLogger("penstock").error("%s", error)
        sys.exit(1)


if __name__ == "__main__":
    main()
