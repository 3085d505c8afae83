"""The parent: `python parent.py FD` forks what is wished for at that socket, until the socket's other end closes.

It imports nothing of Carillon and nothing that looks at Django's settings, which each child has for itself.
"""

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

LIBRARIES = (
    *("celery.bin.celery", "celery.apps.worker", "celery.concurrency.prefork", "celery.concurrency.thread"),
    *("celery.fixups.django", "celery.worker.control", "celery.worker.consumer", "celery.app.log", "celery.app.amqp"),
    *("kombu.transport.redis", "redis.asyncio", "aiohttp", "requests", "psycopg.types.json", "sqlalchemy"),
    *("django.core.management", "django.core.serializers.json", "django.core.cache", "django.db.models"),
    *("django.db.backends.postgresql.base", "django.forms", "django.template", "django.urls", "django.views.generic"),
    *("cryptography.fernet", "environ", "jsonschema", "liquid.extra", "pydantic", "structlog.dev", "yaml"),
)
LONGEST = 1 << 20  # bytes of a wish
PR_SET_PDEATHSIG = 1

prctl = ctypes.CDLL(None).prctl


def fork_on_demand(wishes: socket.socket) -> list[str]:
    """Returns in each child: the words of its command line, after `python`. All else that it shall be is in place."""
    living: dict[int, tuple[int, socket.socket]] = {}
    while True:
        ready, _, _ = select.select([wishes.fileno(), *living], [], [])
        for descriptor in living.keys() & set(ready):
            pid, told = living.pop(descriptor)
            os.close(descriptor)
            with told, suppress(BrokenPipeError):  # nobody may want to know any more
                told.send(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])).encode())
        if wishes.fileno() not in ready:
            continue
        wish, received, _, _ = socket.recv_fds(wishes, LONGEST, 3)
        if not wish:
            sys.exit()
        *outputs, told_to = received
        told = socket.socket(fileno=told_to)
        pid = os.fork()
        if pid == 0:
            for end in (wishes, told, *(told for _, told in living.values())):
                end.close()
            for descriptor in living:
                os.close(descriptor)
            words: list[str]
            words, environment = json.loads(wish)
            be_a_process_of_its_own(outputs, environment)
            return words
        told.send(str(pid).encode())
        living[os.pidfd_open(pid)] = pid, told
        for output in outputs:
            os.close(output)


def be_a_process_of_its_own(outputs: list[int], environment: dict[str, str]) -> None:
    """As project.children.spawn makes one."""
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for descriptor, becomes in zip([os.open(os.devnull, os.O_RDONLY), *outputs], (0, 1, 2), strict=True):
        os.dup2(descriptor, becomes)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # as for `python -m`
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.collect()
    gc.freeze()
    first, *rest = fork_on_demand(socket.socket(fileno=int(sys.argv[1])))
    if path := os.environ.get("PYTHONPATH"):
        sys.path[1:1] = path.split(os.pathsep)
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(first).resolve().parent)
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
