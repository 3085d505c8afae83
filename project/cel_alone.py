"""The package `cel` without its command line, which brings a terminal's toolkit: 0.4 s and 8 MB in every process."""

import sys
from types import ModuleType

sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))

import cel  # noqa: E402
from cel import stdlib  # noqa: E402

__all__ = ["cel", "stdlib"]
