"""The far side of the network: a small real HTTP server and a small real SMTP server that do as the test says."""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email import policy
from email.message import EmailMessage
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from project.embedded import free_port


@dataclass(frozen=True)
class Answer:
    """What the HTTP sink says."""

    status: int = 200
    body: bytes = b"ok"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0


@dataclass(frozen=True)
class Received:
    """A request that reached the HTTP sink. Header names are in small letters."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    status: int  # of the answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512  # 5 would have hundreds of callers at once wait for their second SYN


class HttpSink:
    """Answers 200 `ok` and remembers every request, unless told otherwise.

    `sink.answers["/hook"] = [Answer(500), Answer(429, headers={"Retry-After": "2"}), Answer()]` is given in turn, the
    last one for ever. `stop()` and `start()` keep the port.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.answers: dict[str, list[Answer]] = {}
        self.requests: list[Received] = []
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def to(self, path: str) -> list[Received]:
        """The requests for one path, oldest first."""
        return [request for request in self.requests if request.path == path]

    def wait_for(self, count: int, path: str | None = None, *, seconds: float = 15) -> list[Received]:
        """The requests (for `path`) once there are `count`; AssertionError when that takes longer."""

        def found() -> list[Received]:
            return self.requests if path is None else self.to(path)

        with self._changed:
            enough = self._changed.wait_for(lambda: len(found()) >= count, seconds)
        assert enough, f"{len(found())} of {count} requests came within {seconds} s"
        return found()

    def start(self) -> Self:
        sink = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                answer = sink._take(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                time.sleep(answer.delay)
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(answer.body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.body)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

            def handle(self) -> None:
                try:
                    super().handle()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True  # the caller lost patience or was killed: that is what tests do

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self._server = _Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _take(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with self._changed:
            planned = self.answers.get(path, [Answer()])
            answer = planned.pop(0) if len(planned) > 1 else planned[0]
            self.requests.append(Received(method, path, headers, body, time.time(), answer.status))
            self._changed.notify_all()
            return answer


@dataclass(frozen=True)
class Mail:
    """A mail that the SMTP sink accepted."""

    sender: str
    recipients: list[str]
    message: EmailMessage

    @property
    def text(self) -> str:
        part = self.message.get_body(("plain",))
        return str(part.get_content()) if part is not None else ""


class SmtpSink:
    """Takes every mail, unless `refusals` has an answer for a recipient, or `answer` one for all.

    `sink.refusals["nobody@example.com"] = "550 5.1.1 No such user"`; `sink.answer = "451 4.3.0 Later"`. `stop()` and
    `start()` keep the port.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self.mails: list[Mail] = []
        self.refusals: dict[str, str] = {}
        self.answer = "250 2.0.0 Taken"
        self._changed = threading.Condition()
        self._controller: Controller | None = None

    @property
    def url(self) -> str:
        """As EMAIL_URL takes it."""
        return f"smtp://127.0.0.1:{self.port}"

    def wait_for(self, count: int, *, seconds: float = 15) -> list[Mail]:
        """The mails once there are `count`; AssertionError when that takes longer."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self.mails) >= count, seconds)
        assert enough, f"{len(self.mails)} of {count} mails came within {seconds} s"
        return self.mails

    def start(self) -> Self:
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port)
        self._controller.start()
        return self

    def stop(self) -> None:
        if self._controller is not None:
            self._controller.stop()
            self._controller = None

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refusals:
            return self.refusals[address]
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 Known"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.answer.startswith("2"):
            parsed = BytesParser(policy=policy.default).parsebytes(envelope.original_content or b"")
            assert isinstance(parsed, EmailMessage)
            with self._changed:
                self.mails.append(Mail(envelope.mail_from or "", list(envelope.rcpt_tos), parsed))
                self._changed.notify_all()
        return self.answer
