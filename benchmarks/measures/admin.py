"""How long the admin's pages take with a long history."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp

from benchmarks import usage
from benchmarks.bench import Bench
from benchmarks.databases import repeat, row
from benchmarks.findings import Findings
from benchmarks.load import Load, Order, order
from benchmarks.systems import System, wait_for

ROWS: Final = Path(__file__).with_suffix(".yaml")
PASSWORD: Final = "a password for a benchmark"
TIMES: Final = 7  # that each page is asked for

SHARES: Final = {"paid": 0.22, "mailed": 0.02, "refused": 0.01, "small": 0.1495, "noted": 0.6, "audit": 0.0005}
"""What the history is made of. The first three start a run each: a quarter of the events."""


@dataclass(frozen=True)
class Page:
    """A page, below /admin/. With `form` it is asked for by POST, as a part of a page that the browser fetches."""

    says: str
    path: str
    form: Mapping[str, Any] | None = None


async def measure(bench: Bench) -> Findings:
    """Every page of the admin as a superuser sees it: milliseconds until its last byte is there, and of CPU."""
    found = Findings(["page", "median ms", "worst ms", "web's CPU ms", "PostgreSQL's", "KB"])
    system = bench.servers.carillon("admin")
    system.manage("collectstatic", "--noinput")
    async with bench.warm(system) as load:
        await fill(bench, load, found)
        async with logged_in(system) as session:
            found.figures["admin.ms"] = await ask_all(bench, system, session, found)
    return found


async def ask_all(bench: Bench, system: System, session: aiohttp.ClientSession, found: Findings) -> float:
    """Ask for every page; the largest median."""
    slowest, roots = 0.0, usage.roots(system, bench.servers)
    for page in await _pages(session, bench.servers.postgres.url_of(system.database)):
        before = usage.cpu(roots)
        took, size = await _ask(session, page)
        after = usage.cpu(roots)
        web, postgres = ((after[name] - before[name]) / TIMES * 1000 for name in ("web", "PostgreSQL"))
        told = (median(took), max(took), web, postgres, size / 1024)
        found.add(page.says, *(f"{figure:,.0f}" for figure in told))
        slowest = max(slowest, median(took))
    return slowest


async def fill(bench: Bench, load: Load, found: Findings) -> None:
    """Have one real event of each kind done, and repeat them."""
    load.system.manage("apply", str(ROWS))
    url, kept = bench.servers.postgres.url_of(load.system.database), bench.sizes.kept
    models = list(SHARES)
    await load.send(len(models), make=lambda number, _: model(models[number]))
    under_way = (
        "SELECT EXISTS (SELECT FROM events_event WHERE due_at IS NOT NULL)"
        " OR EXISTS (SELECT FROM workflows_run WHERE state IN ('running', 'waiting'))"
        " OR EXISTS (SELECT FROM notifications_delivery WHERE state = 'pending')"
    )
    await asyncio.to_thread(wait_for, lambda: not row(url, under_way)[0], "the end of the events to repeat")
    counts = {f"{name}-model": int(kept * share) for name, share in SHARES.items()}
    await asyncio.to_thread(repeat, url, counts, bench.say)
    told = row(
        url,
        """
        SELECT (SELECT count(*) FROM events_event), (SELECT count(*) FROM workflows_run),
            (SELECT count(*) FROM notifications_delivery), pg_size_pretty(pg_database_size(current_database()))
        """,
    )
    found.notes.append(
        f"{told[0]:,} events over 30 days, {told[1]:,} runs with their steps, {told[2]:,} deliveries with their "
        f"attempts; {told[3]}. Each page was asked for {TIMES} times."
    )


def model(name: str) -> Order:
    """The event that is repeated under this name. What goes by its id goes by another one in each copy."""
    made = {**order(0, "x"), "id": f"{name}-model", "subject": f"{name}-model"}
    made["data"] = {**made["data"], "order_id": f"{name}-model"}
    match name:
        case "small":
            made["data"]["amount"] = 50.5
        case "noted" | "refused" | "mailed":
            made["type"] = f"order.{name}"
        case "audit":
            made |= {"type": "audit.opened", "source": "/shop/audit"}
    return made


# --- what is asked for -----------------------------------------------------------------------------------------------


async def _pages(session: aiohttp.ClientSession, url: str) -> list[Page]:
    async with session.get("/admin/") as answer:
        overview = await answer.text()
    beside = {"events/apikey/", "workflows/workflowversion/"}  # which the sidebar does not show
    lists = sorted(beside | set(re.findall(r'href="/admin/(\w+/\w+/)"', overview)))
    return [
        Page("overview", ""),
        Page("overview, the last day", "?period=day"),
        Page("getting started", "start/"),
        *(Page(f"list: {path.rstrip('/')}", path) for path in lists),
        *_searches(url),
        *_rows(url),
        *_panels(url),
    ]


def _searches(url: str) -> Iterator[Page]:
    event, event_id = row(
        url,
        "SELECT uid, event_id FROM events_event WHERE event_id LIKE 'old-0-%' ORDER BY uid"
        " OFFSET (SELECT count(*) / 2 FROM events_event WHERE event_id LIKE 'old-0-%') LIMIT 1",
    )
    (run,) = row(url, f"SELECT uid FROM workflows_run WHERE origin = '{event}'")
    searches = {
        "events/event/": [
            *(f"uid:{event}", f"id:{event_id}", event_id, f"subject:{event_id}"),
            *("type:order.paid", "type:order.*", "type:audit.opened", "source:/shop", "source:/shop/audit"),
            *("type:order.paid source:/shop since:7d until:3d", "state:waiting", "since:20d until:19d"),
            *("customer", f'"{event_id}"', "nobody-at-all", "type:audit.* nobody-at-all", "type:order.* nobody-at-all"),
        ],
        "workflows/run/": [
            *(f"uid:{run}", f"event:{event}", "workflow:order-refused", "subscription:mailed-orders"),
            *("state:failed", "state:running", "state:succeeded", "workflow:order-paid state:failed"),
            *("since:20d until:19d", "refused", "nobody-at-all"),
        ],
        "notifications/delivery/": [
            *(f"event:{event}", f"run:{run}", "workflow:order-mailed", "subscription:mailed-orders"),
            *("to:ada@example.com", "to:nobody@example.com", "recipient:ada", "channel:mail", "template:order-paid"),
            *("state:failed", "state:pending", "state:delivered", "since:20d until:19d", "nobody-at-all"),
        ],
    }
    for path, texts in searches.items():
        for text in texts:
            shown = re.sub(r"[0-9a-f-]{36}", "…", text)
            yield Page(f"{path.split('/')[1]}: {shown}", f"{path}?q={quote(text)}")
        yield Page(f"{path.split('/')[1]}: far back", f"{path}?before={event}")


def _rows(url: str) -> Iterator[Page]:
    """The pages of single rows."""
    event, run, step = row(
        url,
        "SELECT run.origin, run.uid, step.uid FROM workflows_run AS run"
        " JOIN workflows_steprun AS step ON step.run_id = run.uid"
        " WHERE run.trigger = 'paid-orders' AND step.step = 'tell' LIMIT 1",
    )
    (delivery,) = row(url, f"SELECT uid FROM notifications_delivery WHERE origin = '{step}'")
    for says, path in {
        "an event": f"events/event/{event}",
        "an event that nobody heard": f"events/event/{row(url, _NEWEST.format('order.noted'))[0]}",
        "a run": f"workflows/run/{run}",
        "a run that failed": f"workflows/run/{row(url, _FAILED)[0]}",
        "a delivery": f"notifications/delivery/{delivery}",
        "a source": "events/source/shop",
        "an event type": "events/eventtype/order.paid",
        "a subscription": "events/subscription/paid-orders",
        "a schedule": "events/schedule/nightly",
        "a workflow": "workflows/workflow/order-paid",
        "a channel": "notifications/channel/sink",
        "a channel that fails": "notifications/channel/mail",
        "a template": "notifications/template/order-paid",
        "a recipient": "notifications/recipient/ada",
    }.items():
        yield Page(says, f"{path}/change/")
    yield Page("replaying an event", f"events/event/{event}/replay")
    yield Page("a subscription's history", "events/subscription/paid-orders/history/")
    for says, path in {"workflow": "workflows/workflow/order-paid", "channel": "notifications/channel/sink"}.items():
        yield Page(f"deleting a {says}: what stands in the way", f"{path}/delete/")
    yield Page("deleting a recipient: what goes along", "notifications/recipient/ada/delete/")


_NEWEST: Final = "SELECT uid FROM events_event WHERE type = '{}' ORDER BY uid DESC LIMIT 1"
_FAILED: Final = "SELECT uid FROM workflows_run WHERE state = 'failed' LIMIT 1"


def _panels(url: str) -> Iterator[Page]:
    """What pages fetch by themselves, or by a button."""
    key, workflow = row(url, "SELECT id, workflow_id FROM events_subscription WHERE name = 'paid-orders'")
    draft = {"name": "paid-orders", "types": "order.paid", "filter": "event.data.amount > 150.0", "enabled": "on"}
    draft |= {"workflow": workflow, "subscription": key}
    yield Page("a subscription: the latest events", "events/subscription/check/", draft)
    for days in (1, 30):
        name = f"a subscription: a dry run over {days} d, its first step"
        yield Page(name, "events/subscription/dry-run/", {**draft, "days": days})
    (kind,) = row(url, "SELECT id FROM events_eventtype WHERE name = 'order.paid'")
    schema = {"type": kind, "schema": '{"type": "object", "required": ["order_id", "amount", "customer", "colour"]}'}
    yield Page("an event type: what a schema breaks", "events/eventtype/check/", schema)
    yield Page(
        "an event type: a schema tried over 1 d, its first step", "events/eventtype/review/", schema | {"days": 1}
    )
    (source,) = row(
        url, f"SELECT source FROM workflows_workflowversion WHERE workflow_id = {workflow} ORDER BY number DESC LIMIT 1"
    )
    yield Page(
        "a workflow: checked while it is written", f"workflows/workflow/check/?workflow={workflow}", {"text": source}
    )
    yield Page("a workflow: the words of its editor", f"workflows/workflow/words/?workflow={workflow}")
    (event,) = row(url, _NEWEST.format("order.paid"))
    yield Page(
        "a workflow: a test run",
        f"workflows/workflow/test/?workflow={workflow}",
        {"definition": source, "stored": event},
    )
    (template,) = row(url, "SELECT id FROM notifications_template WHERE name = 'order-paid'")
    text = {"name": "order-paid", "subject": "Order paid", "text": "{{ event.data.customer }} paid.", "stored": event}
    yield Page("a template: its preview", f"notifications/template/preview/?template={template}", text)
    (channel,) = row(url, "SELECT id FROM notifications_channel WHERE name = 'mail'")
    yield Page("a channel: recovering what failed", f"notifications/channel/{channel}/recover")


# --- asking ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def logged_in(system: System) -> AsyncIterator[aiohttp.ClientSession]:
    """A superuser's browser, without its pictures and scripts."""
    system.manage(*_SUPERUSER, DJANGO_SUPERUSER_PASSWORD=PASSWORD)
    base = system.url.removesuffix("/api/v1/events")
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of an address without a name
    async with aiohttp.ClientSession(base, cookie_jar=jar, timeout=aiohttp.ClientTimeout(60)) as session:
        async with session.get("/admin/login/") as answer:
            await answer.read()
        form = {"username": "bench", "password": PASSWORD, "csrfmiddlewaretoken": _token(session)}
        async with session.post("/admin/login/?next=/admin/", data=form) as answer:
            if "Log out" not in await answer.text():
                raise SystemExit(f"The superuser could not log in: {answer.status} at {answer.url}")
        yield session


_SUPERUSER: Final = ("createsuperuser", "--noinput", "--username", "bench", "--email", "bench@example.com")


def _token(session: aiohttp.ClientSession) -> str:
    return next(cookie.value for cookie in session.cookie_jar if cookie.key == "csrftoken")


async def _ask(session: aiohttp.ClientSession, page: Page) -> tuple[list[float], int]:
    """Milliseconds of each time, and the size of the last answer. SystemExit unless it is one."""
    took, body, path = [], b"", f"/admin/{page.path}"
    for _ in range(TIMES):
        started = time.monotonic()
        if page.form is None:
            answer = await session.get(path)
        else:
            headers = {"X-CSRFToken": _token(session), "HX-Request": "true"}
            sent = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = await session.post(path, data=urlencode(page.form), headers=headers | sent)
        body = await answer.read()
        took.append((time.monotonic() - started) * 1000)
        if answer.status != 200:
            raise SystemExit(f"{path} answers {answer.status}: {body[:2000].decode()}")
    return took, len(body)
