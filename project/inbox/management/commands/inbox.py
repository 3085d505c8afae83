"""The inbox's SMTP server, in its own process."""

import asyncio
import signal
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError
from django.db import close_old_connections

from project.inbox import receive


class Command(BaseCommand):
    requires_system_checks = ()  # they would import every view, for nothing
    help = "Receive mail on 127.0.0.1:INBOX_SMTP_PORT and keep it for /inbox/ (development only)."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.INBOX:
            raise CommandError("The inbox exists only with DEBUG=1.")
        asyncio.run(serve(settings.INBOX_SMTP_PORT))


class Keeper:
    """What aiosmtpd calls for each mail."""

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        try:
            await sync_to_async(_keep)(envelope.original_content or b"", envelope.rcpt_tos)
        except DatabaseError as error:
            return f"451 4.3.0 The inbox cannot store it now, try again: {' '.join(str(error).split())[:200]}"
        return "250 2.0.0 Kept"


async def serve(port: int) -> None:
    """Receive until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(
        lambda: SMTP(Keeper(), enable_SMTPUTF8=True, ident="Carillon inbox", loop=loop), "127.0.0.1", port
    )
    await stopped.wait()
    server.close()


def _keep(content: bytes, recipients: list[str]) -> None:
    close_old_connections()
    receive.mail(content, recipients)
