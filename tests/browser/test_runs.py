"""A person decides on a phone, and an operator cancels and retries runs in the admin."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Admin
from tests.workflows.runs import drain, start, state, workflow
from workflows.scope import token_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ASK = "  - {id: decide, action: approval, with: {timeout: 2h}}\n"
SLEEP = "  - {id: sleep, action: delay, with: {for: 1h}}\n"
ABOUT = {"type": "refund.requested", "source": "/shop", "subject": "A-1001", "id": "1"}


def test_a_person_decides_on_a_phone_light_and_dark(admin: Admin) -> None:
    version = workflow(ASK, "refund", "description: Give a customer money back, when customer care agrees")
    first, second = start(version, ABOUT, ABOUT)
    drain()
    page = admin.page
    for run, theme, button in ((first, "light", "Approve"), (second, "dark", "Reject")):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        page.goto(f"{admin.url}/steps/{token_of(run.uid, 'decide')}")
        expect(page.get_by_role("heading")).to_have_text("refund")
        expect(page.get_by_text("A-1001")).to_be_visible()
        admin.picture(f"decision-{theme}-1280")
        admin.picture(f"decision-{theme}-390", width=390)
        page.fill("textarea", "As we agreed.\nThank you.")
        page.click(f"button:text-is('{button}')")
        expect(page.get_by_text("Thank you, the workflow goes on.")).to_be_visible()
        expect(page.locator(".said")).to_have_text("As we agreed.\nThank you.", use_inner_text=True)
        admin.picture(f"decided-{theme}-390", width=390)
        drain()
        run.refresh_from_db()
        assert run.steps["decide"]["output"]["comment"] == "As we agreed.\nThank you."
    assert [run.steps["decide"]["outcome"] for run in (first, second)] == ["approved", "rejected"]


def test_an_operator_cancels_and_retries_runs(admin: Admin) -> None:
    workflow(SLEEP, "child")
    (parent,) = start(
        workflow(
            "  - {id: each, for_each: [a, b], needs: [], action: workflow.run, with: {workflow: child}}\n"
            "  - {id: ask, needs: [], action: approval, with: {timeout: 2h}}\n",
            "parent",
        ),
        ABOUT,
    )
    (failed,) = start(workflow("  - {id: refuse, action: fail, with: {message: The card was declined}}\n", "pay"), {})
    start(workflow(SLEEP, "single", "concurrency: {key: k}"), {}, {})
    drain()
    page = admin.page
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
        admin.open("workflows/run/")
        admin.picture(f"runs-{theme}-1280")
        admin.open(f"workflows/run/{parent.pk}/change/")
        page.click("summary:text-is('1 step') >> nth=0")
        admin.picture(f"run-with-children-{theme}-1280")
        admin.picture(f"run-with-children-{theme}-390", width=390)

    page.set_viewport_size({"width": 1280, "height": 900})
    page.click("a:text-is('Cancel')")
    expect(page.get_by_text("Cancel: 1 run, and 2 that it started")).to_be_visible()
    admin.picture("confirm-cancel-dark-1280")
    page.click("button:text-is('Cancel')")
    expect(page.get_by_text("1 cancelled.")).to_be_visible()
    admin.picture("cancelled-dark-1280")
    assert state(parent) == "cancelled"

    page.emulate_media(color_scheme="light")
    admin.open("workflows/run/")
    for box in page.locator("#result_list input[name=_selected_action]").all():
        box.check()
    page.select_option("select[name=action]", "retry_selected")
    page.click("button[name=index]")
    expect(page.get_by_text("Retry: 4 runs")).to_be_visible()
    expect(page.get_by_text("2 of the chosen will be left alone")).to_be_visible()
    admin.picture("confirm-retry-light-1280")
    admin.picture("confirm-retry-light-390", width=390)
    page.click("button:text-is('Retry')")
    expect(page.get_by_text("4 retried. 2 left alone: neither failed nor cancelled.")).to_be_visible()
    assert state(failed) == "running"
