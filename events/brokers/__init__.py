"""Message brokers that events come from. A new one is one new module here; base.py says what to write."""
