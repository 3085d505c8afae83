"""`make chaos`: the faults of faults.py under load, then the invariant, then a table of the faults survived."""

from __future__ import annotations

import argparse
import os
import random
import sys

import django

from tests import servers


def main() -> int:
    arguments = _arguments()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")
    servers.start()
    try:
        django.setup()  # its settings need the servers' addresses, and what is imported here needs its settings
        from tests.chaos.command import run

        return run(seconds=arguments.seconds, seed=arguments.seed, only=arguments.only)
    finally:
        servers.stop()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=900, help="how long faults are caused (default: 900)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="the same faults in the same order")
    parser.add_argument(
        "--only", metavar="FAULT", action="append", help="only faults whose name contains this; may be repeated"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
