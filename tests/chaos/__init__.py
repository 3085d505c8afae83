"""Proof under faults: load that does not stop, one fault after the other, and what was promised held against it."""
