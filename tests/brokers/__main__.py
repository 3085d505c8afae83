"""The proof that consuming from brokers loses nothing and counts nothing twice, on real brokers and real processes."""

from __future__ import annotations

import argparse
import os
import sys

import django

from tests import servers


def main() -> int:
    arguments = _arguments()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    servers.start()
    try:
        django.setup()  # its settings need the servers' addresses, and what is imported here needs its settings
        from tests.brokers.command import run

        return run(messages=arguments.messages, kills=arguments.kills, only=arguments.only, write=arguments.write)
    finally:
        servers.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.brokers", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000, help="of each broker (default: 20000)")
    parser.add_argument("--kills", type=int, default=5, help="by -9, of one of two consumers in turn (default: 5)")
    parser.add_argument("--only", metavar="BROKER", action="append", help="only this broker; may be repeated")
    parser.add_argument("--write", action="store_true", help="write the table of docs/reliability.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
