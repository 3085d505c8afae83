"""What a process made when it started lives as long as the process does: the garbage collector need not look at it."""

import gc
from typing import Final

# New containers until the youngest are looked through. A batch of a hundred events makes some 20,000 that live until
# its end, and Python's 700 has them looked through thirty times.
BETWEEN_COLLECTIONS: Final = 20_000


def settle() -> None:
    """Call it when everything is imported: what is there now is left alone from here on, also by forked children."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(BETWEEN_COLLECTIONS, 10, 10)
