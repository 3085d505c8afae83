"""The page of a run: what took how long, what waited, where it stands; and it follows along."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from notifications.models import Channel, Template
from notifications.sender import Sender
from tests.browser.conftest import Admin
from tests.live import wait_until
from tests.sinks import Answer, HttpSink
from tests.workflows.runs import drain, start, state, time_passes, workflow
from workflows.models import Run, StepRun
from workflows.performer import Performer

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

TRIP = """\
  - {id: note, action: record.put, with: {collection: trips, key: "${{ event.id }}", value: booked},
     undo: {action: record.delete, with: {collection: trips, key: "${{ event.id }}"}}}
  - {id: hotel, needs: [note], action: http.request, with: {url: "URL/hotel"}, retry: {attempts: 2, delay: 1s}}
  - {id: flight, needs: [note], if: event.seats > 0, action: http.request, with: {url: "URL/flight"}}
  - {id: people, needs: [note], for_each: "${{ event.people }}", action: record.put,
     with: {collection: people, key: "${{ item }}", value: goes}}
  - {id: tell, needs: [hotel, flight, people], action: notify, with: {to: ["channel:chat"], template: booked}}
  - {id: cool_off, needs: [tell], action: delay, with: {for: 1h}}
  - {id: charge, needs: [cool_off], action: fail, with: {message: The card was declined}}
"""
FAILED = "on_failure:\n  - {id: apologise, action: transform, with: {values: {sorry: true}}}\n"


def go_on() -> None:
    """Do what is due, steps outside and deliveries included."""
    drain()
    for pump in (Performer(), Sender()):
        pump.drain()
        pump.stop()
    drain()


def begin(http_sink: HttpSink) -> Run:
    """A run that waits for an hour; one of its steps failed at first."""
    http_sink.answers["/hotel"] = [Answer(500, b"overbooked"), Answer()]
    Channel.objects.create(name="chat", type="webhook", settings={"url": http_sink.url("/chat")})
    Template.objects.create(name="booked", text="A trip was booked.")
    version = workflow(TRIP.replace("URL", http_sink.url("").rstrip("/")), "trip", FAILED)
    (run,) = start(version, {"id": "T-1", "seats": 0, "people": ["Ada", "Grace", "Edsger"]})
    cool_off = StepRun.objects.filter(run=run, step="cool_off")

    def waits() -> bool:
        go_on()
        return cool_off.exists()

    wait_until(waits, seconds=30, what="the step that waits")
    go_on()
    return run


def test_a_run_shows_what_took_how_long_and_where_it_stands(admin: Admin, http_sink: HttpSink) -> None:
    run = begin(http_sink)
    page = admin.page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        admin.open(f"workflows/run/{run.pk}/change/")
        expect(page).to_have_title(f"{run} | Run of trip | Carillon")
        expect(page.locator(".timeline-row", has_text="hotel")).to_contain_text("2 attempts")
        expect(page.locator(".timeline-row", has_text="hotel").locator("rect[data-state=failed]")).to_have_count(1)
        expect(page.locator(".timeline-row", has_text="cool_off").locator("rect[data-kind=wait]")).to_have_count(1)
        expect(page.locator(".graph-node[data-step=flight]")).to_contain_text("skipped")
        expect(page.locator(".graph-node[data-step=people]")).to_contain_text("3 of 3")
        expect(page.locator(".graph-node[data-step=charge]")).to_have_attribute("data-state", "")
        for width in (1280, 390):
            admin.picture(f"run-page-{theme}-{width}", width=width)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.click(".graph-node[data-step=tell]")
    expect(page.locator("#step-tell")).to_be_in_viewport()


def test_a_page_that_is_open_follows_along_and_keeps_what_was_opened(admin: Admin, http_sink: HttpSink) -> None:
    run = begin(http_sink)
    page = admin.page
    admin.open(f"workflows/run/{run.pk}/change/")
    expect(page.get_by_text("live", exact=True)).to_be_visible()
    output = page.locator(f"#output-{StepRun.objects.get(run=run, step='note').pk}")
    output.locator("summary").click()
    output.locator("summary").focus()
    page.evaluate("window.unbroken = true")
    time_passes(3601)
    assert state(run) == "failed"
    expect(page.locator(".graph-node[data-step=charge]")).to_have_attribute("data-state", "failed", timeout=20_000)
    expect(page.locator(".graph-node[data-step=note]")).to_contain_text("undo record.delete")
    expect(page.get_by_text("live", exact=True)).to_have_count(0)
    assert output.evaluate("it => it.open"), "what was opened stays open"
    assert page.evaluate("document.activeElement.parentElement.id") == output.get_attribute("id"), "focus stays"
    assert page.evaluate("window.unbroken"), "it was never loaded anew"
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(2500)
    assert not asked, "what is over is not asked for again"
    admin.picture("run-page-failed")
    page.click("a:text-is('Retry')")
    expect(page.get_by_text("Retry: 1 run")).to_be_visible()
