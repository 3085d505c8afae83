"""Names for classes that plug in: each module of a package registers its own, and the registry finds them."""

import importlib
import pkgutil
import threading
from collections.abc import Callable, ItemsView, Iterator, Sequence
from typing import Any, Generic, TypeVar

from django.utils.module_loading import autodiscover_modules

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


_made: list["Registry[Any]"] = []


def load_all() -> None:
    """Import now what the registries that are known so far would import at first use: a quarter of a second."""
    for registry in _made:
        registry.names()


class UnknownName(LookupError):
    """Nothing of this kind has this name; the message lists the names there are."""


class Registry(Generic[T]):
    """The classes of one kind by name, found at first use by importing every module of `package`, which may be several.

    With `app_module="actions"` the module `actions` of every installed app is imported as well.

        channel_types = Registry[Channel]("channel type", package="notifications.channels")

        @channel_types.register("slack")
        class Slack(Channel): ...

        channel_types["slack"]     # Slack
        channel_types["x"]         # UnknownName: unknown channel type "x"; known: email, slack, webhook
    """

    def __init__(self, kind: str, *, package: str | Sequence[str] = (), app_module: str | None = None) -> None:
        self.kind = kind
        self._packages = [package] if isinstance(package, str) else package
        self._app_module = app_module
        self._classes: dict[str, type[T]] = {}
        self._loaded = False
        self._lock = threading.RLock()
        _made.append(self)

    def register(self, name: str) -> Callable[[C], C]:
        """A class decorator: puts the class under `name`, sets its `name`, and refuses a name that is taken."""

        def add(cls: C) -> C:
            taken_by = self._classes.get(name)
            # A module whose first import failed halfway is imported again and brings the same class once more.
            if taken_by is not None and _address(taken_by) != _address(cls):
                raise ValueError(
                    f'{self.kind} "{name}" is registered twice: {_address(taken_by)} and {_address(cls)}; rename one'
                )
            cls.name = name
            self._classes[name] = cls
            return cls

        return add

    def __getitem__(self, name: str) -> type[T]:
        classes = self._all()
        if name not in classes:
            raise UnknownName(f'unknown {self.kind} "{name}"; known: {", ".join(sorted(classes)) or "none"}')
        return classes[name]

    def get(self, name: str) -> type[T] | None:
        """The class, where there is one of this name."""
        return self._all().get(name)

    def __contains__(self, name: object) -> bool:
        return name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._all())

    def items(self) -> ItemsView[str, type[T]]:
        """Name and class of every member, sorted by name."""
        return dict(sorted(self._all().items())).items()

    def _all(self) -> dict[str, type[T]]:
        if not self._loaded:
            with self._lock:
                self._load()
        return self._classes

    def _load(self) -> None:
        for name in self._packages:
            package = importlib.import_module(name)
            for module in pkgutil.walk_packages(package.__path__, prefix=f"{name}."):
                importlib.import_module(module.name)
        if self._app_module:
            autodiscover_modules(self._app_module)
        self._loaded = True


def _address(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
