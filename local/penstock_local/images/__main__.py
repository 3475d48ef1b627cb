"""`python -m penstock_local.images build operator|trainer|mpich-test|all`, `archive NAME`, `digest NAME`, `clean`."""

import argparse
import sys

from penstock_local.images import ImagesError, archive, build, catalogue, digest
from penstock_local.images.store import clean


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m penstock_local.images", description="Build the project's images.")
    commands = parser.add_subparsers(dest="command", required=True)
    names = [*catalogue.IMAGES]
    for command, text, choices in (
        ("build", "build an image where its inputs changed", [*names, "all"]),
        ("archive", "the same, and print the path of its OCI archive", names),
        ("digest", "the same, and print its digest", names),
    ):
        sub = commands.add_parser(command, help=text)
        sub.add_argument("name", choices=choices)
        sub.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="such as VARIANT=full")
    commands.add_parser("clean", help="remove the built images, their archives and the builder's layers from the cache")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "clean":
            clean()
            return 0
        wrong = [pair for pair in chosen.build_arg if "=" not in pair]
        if wrong:
            raise ImagesError(f"--build-arg wants NAME=VALUE, not {wrong[0]!r}")
        values = dict(pair.split("=", 1) for pair in chosen.build_arg)
        action = {"build": build, "archive": archive, "digest": digest}[chosen.command]
        print(action(chosen.name, arguments=values))
    except ImagesError as error:
        print(f"penstock images: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("penstock images: stopped; the finished steps are kept", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
