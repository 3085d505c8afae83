"""The inbox's SMTP server: hands each mail to the web process, which keeps it.

Run as a file, not as a module: without Django it starts at once and stays small.
"""

import argparse
import asyncio
import json
import signal
import time
import urllib.error
import urllib.request

from aiosmtpd.smtp import SMTP, Envelope, Session

PATIENCE_SECONDS = 8  # a restart of web is waited for; what takes longer is the sender's to try again


class Keeper:
    """What aiosmtpd calls for each mail."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        try:
            await asyncio.to_thread(self._hand_over, envelope.original_content or b"", envelope.rcpt_tos)
        except OSError as error:
            return f"451 4.3.0 The inbox cannot keep it now, try again: {' '.join(str(error).split())[:200]}"
        return "250 2.0.0 Kept"

    def _hand_over(self, content: bytes, recipients: list[str]) -> None:
        headers = {"Content-Type": "message/rfc822", "X-Recipients": json.dumps(recipients)}
        request = urllib.request.Request(self.url, content, headers)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                urllib.request.urlopen(request, timeout=PATIENCE_SECONDS).close()
                return
            except OSError as error:
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


async def serve(port: int, url: str) -> None:
    """Receive on 127.0.0.1 until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    keeper = Keeper(url)
    server = await loop.create_server(
        lambda: SMTP(keeper, enable_SMTPUTF8=True, ident="Carillon inbox", loop=loop), "127.0.0.1", port
    )
    await stopped.wait()
    server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--deliver-to", required=True, metavar="URL", help="the inbox's /inbox/mail")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.port, arguments.deliver_to))
