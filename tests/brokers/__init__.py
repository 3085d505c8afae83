"""Real brokers for tests, and the proof that consuming loses and doubles nothing: `python -m tests.brokers`."""
