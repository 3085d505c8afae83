"""The adapters of sources by name. A new one is one new module here; base.py says what to write.

Those of message brokers are in events/brokers.
"""

from events.sources.base import Adapter
from project.registry import Registry

adapters = Registry[Adapter]("adapter", package=("events.sources", "events.brokers"))
