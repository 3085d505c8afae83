"""The far side of the network and the real processes that the other tests stand on."""

import signal
import smtplib
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from django.contrib.auth.models import User

from tests import servers
from tests.live import Live, wait_until
from tests.nursery import FORKS
from tests.sinks import Answer, HttpSink, SmtpSink


def test_the_http_sink_answers_in_turn_and_remembers(http_sink: HttpSink) -> None:
    http_sink.answers["/hook"] = [Answer(503, headers={"Retry-After": "1"}), Answer(201, body=b"made")]
    with pytest.raises(HTTPError) as refused:
        urlopen(Request(http_sink.url("/hook"), b"1", {"X-Number": "1"}), timeout=5)
    refused.value.close()
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (503, "1")
    for _ in range(2):
        with urlopen(Request(http_sink.url("/hook"), b"2"), timeout=5) as answer:
            assert answer.read() == b"made"
    assert [request.body for request in http_sink.wait_for(3, "/hook")] == [b"1", b"2", b"2"]
    assert http_sink.requests[0].headers["x-number"] == "1"


def test_the_smtp_sink_takes_refuses_and_comes_back_on_its_port(smtp_sink: SmtpSink) -> None:
    def send() -> None:
        with smtplib.SMTP("127.0.0.1", smtp_sink.port, timeout=5) as client:
            client.sendmail("a@example.com", ["ada@example.com", "no@example.com"], "Subject: Hello\r\n\r\nText\r\n")

    smtp_sink.refusals["no@example.com"] = "550 5.1.1 No such user"
    send()
    smtp_sink.answer = "451 4.3.0 Later"
    with pytest.raises(smtplib.SMTPDataError):
        send()
    smtp_sink.stop()
    with pytest.raises(ConnectionRefusedError):
        send()
    smtp_sink.start()
    smtp_sink.answer = "250 2.0.0 Taken"
    send()
    mails = smtp_sink.wait_for(2)
    assert [(mail.recipients, mail.message["Subject"]) for mail in mails] == [(["ada@example.com"], "Hello")] * 2


@pytest.mark.flow
def test_real_processes_become_ready_and_survive_losing_their_servers(live: Live) -> None:
    live.start("web", "worker", "performer", "sender", "clock")
    live.wait_ready()
    User.objects.create(username="ada")
    assert "ada" in live.manage(
        "shell", "--no-imports", "-c", "from django.contrib.auth.models import User; print(User.objects.get())"
    )

    live.kill("worker")
    live.valkey.stop()
    live.postgres.restart()
    live.valkey.start()
    live.start("worker")
    live.wait_ready()


SAYS: Final = """
import atexit, os, sys
print(sys.argv, __name__, os.environ, os.getsid(0) == os.getpid(), "django" in sys.modules)
print([name for name in sys.modules if name.split(".")[0] in {"project", "events", "tests"}])
atexit.register(print, "the end")
print("to stderr", file=sys.stderr)
sys.exit(int(sys.argv[1]))
"""


@pytest.mark.skipif(not FORKS, reason="here they are made by exec")
def test_a_process_of_the_nursery_is_as_exec_makes_one(tmp_path: Path) -> None:
    script = tmp_path / "says.py"
    script.write_text(SAYS)
    said = servers.nursery.run([sys.executable, str(script), "0"], env={"ONE": "1"}).stdout
    expected = f"{[str(script), '0']} __main__ environ({{'ONE': '1'}}) True True\n[]\nthe end\n"
    assert said == expected
    with pytest.raises(subprocess.CalledProcessError) as failed:
        servers.nursery.run([sys.executable, str(script), "3"], env={"ONE": "1"})
    assert (failed.value.returncode, failed.value.stderr) == (3, "to stderr\n")
    (tmp_path / "found.py").write_text("import sys; print(sys.argv[1:])")
    found = servers.nursery.run([sys.executable, "-m", "found", "1"], env={"PYTHONPATH": str(tmp_path)})
    assert found.stdout == "['1']\n"


def test_a_process_of_the_nursery_tells_how_it_ended(tmp_path: Path) -> None:
    script = tmp_path / "sleeps.py"
    script.write_text("print('begun', flush=True); import time; time.sleep(60)")
    log = tmp_path / "log"
    child = servers.nursery.spawn([sys.executable, str(script)], log=log, env={})
    wait_until(lambda: log.read_text() == "begun\n")
    assert child.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.01)
    child.terminate()
    assert child.wait(5) == child.poll() == -signal.SIGTERM
