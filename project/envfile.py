"""The file of `KEY=value` lines in which a local stack keeps its addresses and secrets between runs."""

import os
from collections.abc import Mapping
from pathlib import Path


def read(path: Path) -> dict[str, str]:
    """Its values; empty when there is no such file."""
    if not path.exists():
        return {}
    lines = (line.strip() for line in path.read_text().splitlines())
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def write(path: Path, values: Mapping[str, str]) -> None:
    """Replace the file whole, so that a reader never sees half of it; only this user may read it (mode 600)."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("# Written by `make run`. Secrets: not for version control.\n")
        file.writelines(f"{name}={value}\n" for name, value in values.items())
    fresh.replace(path)
