"""A person writes a workflow in the browser, tries it out, compares its versions, and tries a template out.

Of the pictures that SCREENSHOTS keeps, `workflow-editor`, `test-run` and `template` stand in docs/images.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from events.models import Event, EventType, Source, Subscription
from examples.ops.models import Order
from notifications.models import Channel, Delivery, Recipient, Template
from tests.browser.conftest import Admin
from tests.browser.test_accessibility import violations
from tests.workflows.runs import drain, start
from workflows.models import Run, Workflow
from workflows.publishing import publish

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

ORDER_PAID = """\
name: order-paid
description: Keep the order and tell the shop
steps:
  - id: price
    action: http.request
    with: {url: "https://prices.example.com/${{ event.data.order_id }}"}
  - id: keep
    action: database.upsert
    with:
      model: ops.Order
      key: {order_id: "${{ event.data.order_id }}"}
      values: {amount: "${{ event.data.amount }}", customer: "${{ event.data.customer }}"}
  - id: large
    if: event.data.amount > 1000.0
    action: record.put
    with: {collection: large, key: "${{ event.id }}", value: "${{ steps.price.output.body.price }}"}
  - id: tell
    action: notify
    with: {to: ["topic:orders", "channel:chat"], template: order-paid}
"""


@pytest.fixture
def shop() -> Workflow:
    """A shop that is set up, with an event stored."""
    Source.objects.create(name="shop")
    EventType.objects.create(name="order.paid", example={"order_id": "A-1", "amount": 120.5, "customer": "Ada"})
    Channel.objects.create(name="mail", type="email", default=True)
    Channel.objects.create(name="chat", type="slack", settings={"url": "https://example.com/hooks/chat"})
    Recipient.objects.create(name="ada", addresses={"email": "ada@example.com"}, topics=["orders"], language="de")
    Recipient.objects.create(name="bob", addresses={"email": "bob@example.com"}, topics=["orders"], enabled=False)
    Template.objects.create(
        name="order-paid",
        subject="Order {{ event.data.order_id }} paid",
        text="{{ event.data.customer }} paid {{ event.data.amount }}.",
        html="<h2>Order {{ event.data.order_id }}</h2><p>{{ event.data.customer }} paid.",
        languages={"de": {"subject": "Bestellung {{ event.data.order_id }} bezahlt"}},
    )
    version, _ = publish(ORDER_PAID)
    Subscription.objects.create(name="paid", types=["order.paid"], workflow=version.workflow)
    Event.objects.create(
        source="/shop",
        event_id="stored-1",
        type="order.paid",
        subject="A-2",
        time=timezone.now(),
        data={"order_id": "A-2", "amount": 2400.0, "customer": "Grace"},
    )
    return version.workflow


def type_at_end(page: Page, text: str) -> None:
    """Type into the workflow's editor, key by key, below what stands there."""
    page.evaluate("document.getElementById('id_definition').editor.execCommand('goDocEnd')")
    page.evaluate("document.getElementById('id_definition').editor.focus()")
    page.keyboard.type(text, delay=20)


def pick(page: Page, word: str) -> None:
    page.locator(".CodeMirror-hint", has_text=word).first.click()


def offered(page: Page, text: str) -> list[str]:
    """What the editor would offer where the bar stands in the text."""
    found: list[str] = page.evaluate(
        """async ([text, event]) => {
            const words = new Vocabulary(await (await fetch(definition.dataset.words)).json());
            const found = words.at(text.replace("|", ""), text.indexOf("|"), event);
            return found ? found.list.map((one) => one.shown || one.text) : [];
        }""",
        [text, {"type": "order.paid", "data": {"order_id": "A-1", "customer": {"name": "Ada"}}}],
    )
    return found


def test_what_can_be_written_is_offered_while_somebody_types(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    admin.open("workflows/workflow/add/")
    admin.write("definition", "name: welcome\nsteps:\n  - id: tell\n    ")
    type_at_end(page, "act")
    pick(page, "action")
    pick(page, "notify")  # its values are offered at once
    type_at_end(page, "\nwith:\n  tem")
    pick(page, "template")
    expect(page.locator(".CodeMirror-hints")).to_contain_text("order-paid")
    admin.picture("all-completion", whole=False)
    page.keyboard.press("Enter")
    expect(page.locator("#id_definition")).to_have_value(
        "name: welcome\nsteps:\n  - id: tell\n    action: notify\n    with:\n      template: order-paid"
    )
    expect(page.locator(".CodeMirror-hints")).to_have_count(0)


def test_keys_values_names_and_what_expressions_read_are_offered_where_they_fit(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    admin.open("workflows/workflow/add/")
    step = "name: w\nsteps:\n  - {id: first, action: fail}\n  - id: second\n    "
    assert offered(page, "|")[:2] == ["name", "steps"]
    assert offered(page, f"{step}if: steps.fi|") == ["first"]
    assert offered(page, f"{step}if: steps.first.|") == ["error", "outcome", "output", "state"]
    assert offered(page, f"{step}needs: [|]") == ["first"]
    assert "id" not in offered(page, f"{step}|")
    assert offered(page, f"{step}on_error: |") == ["fail", "continue"]
    assert offered(page, f"{step}retry: {{|}}") == ["attempts", "delay", "factor", "max_delay"]
    assert offered(page, f"{step}action: database.upsert\n    with:\n      |")[:2] == ["model", "key"]
    assert offered(page, f"{step}action: database.upsert\n    with: {{model: |}}") == ["ops.Incident", "ops.Order"]
    upsert = f"{step}action: database.upsert\n    with:\n      model: ops.Order\n      "
    assert offered(page, f"{upsert}values: {{am|}}") == ["amount"]
    assert offered(page, f"{upsert}key:\n        |")[0] == "order_id"
    assert offered(page, f"{upsert}values:\n        customer: ${{{{ event.data.|") == ["order_id", "customer"]
    assert offered(page, f"{upsert}values:\n        customer: ${{{{ event.data.customer.|") == ["name"]
    notify = f"{step}action: notify\n    with: "
    assert offered(page, notify + "{to: [topic:orders, |") == [
        *("channel:chat", "channel:mail", "topic:orders", "recipient:ada", "recipient:bob", "email:")
    ]
    assert offered(page, notify + "{to: [channel:c|], template: x}") == ["channel:chat"]
    assert offered(page, notify + '{template: "${{ |') == ["event", "run", "steps"]
    assert offered(page, f"{step}for_each: [1]\n    if: |") == ["event", "run", "steps", "item", "index"]
    assert offered(page, f"{step}action: |")[0] == "approval"
    assert offered(page, f"{step}undo:\n      action: record.|")[:1] == ["record.delete"]
    assert offered(page, f"{step}action: event.wait\n    with: {{type: |}}") == ["order.paid"]
    assert offered(page, f"{step}action: workflow.run\n    with: {{workflow: or|}}") == ["order-paid"]
    assert offered(page, f"{step}action: nothing\n    with: {{|}}") == []


def test_a_mistake_is_marked_while_somebody_types_and_the_graph_follows(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    admin.open("workflows/workflow/order-paid/change/")
    graph = page.locator("#workflow-graph")
    expect(graph.locator("[data-step]")).to_have_count(4)
    admin.write("definition", ORDER_PAID.replace("record.put", "record.putt"))
    expect(page.locator(".editor-problem")).to_contain_text('did you mean "record.put"?')
    expect(page.get_by_text("1 thing is wrong.")).to_be_visible()
    expect(graph.locator("[data-step]")).to_have_count(4)  # as it was when nothing was wrong
    for width in (1280, 390):
        admin.picture(f"all-workflow-mistake-{width}", width=width, whole=False)
    page.set_viewport_size({"width": 1280, "height": 900})
    admin.write("definition", ORDER_PAID.replace("name: order-paid", "name: other"))
    expect(page.locator(".editor-problem")).to_contain_text("a workflow keeps its name")
    admin.write("definition", ORDER_PAID + "  - {id: last, action: transform, with: {values: 1}}\n")
    expect(page.locator(".editor-problem")).to_have_count(0)
    expect(page.get_by_text("Nothing is wrong.")).to_be_visible()
    expect(graph.locator("[data-step]")).to_have_count(5)
    graph.locator("[data-step=last]").click()
    line = page.evaluate("document.getElementById('id_definition').editor.getCursor().line")
    assert ORDER_PAID.count("\n") == line
    page.once("dialog", lambda dialog: dialog.accept())
    admin.open("")


def test_a_test_run_shows_what_would_be_done_and_said_and_does_nothing(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    admin.open("workflows/workflow/order-paid/change/")
    page.click("button:text('Test run')")
    results = page.locator("#test-results")
    expect(results).to_contain_text("It would have succeeded")
    expect(results).to_contain_text("It would add a row to ops.Order.")
    expect(results).to_contain_text("event.data.amount > 1000.0 is false (event.data.amount = 120.5)")
    expect(results).to_contain_text("Bestellung A-1 bezahlt")
    expect(results).to_contain_text("recipient bob is disabled")
    frame = page.frame_locator(".message-html").first
    expect(frame.get_by_role("heading")).to_have_text("Order A-1")
    assert page.locator(".message-html").first.get_attribute("sandbox") == ""
    expect(page.locator("#workflow-graph [data-state=skipped] .graph-id")).to_have_text("large")

    page.select_option("#id_sample", label=page.locator("#id_sample option", has_text="A-2").inner_text())
    expect(page.locator("#id_document + .CodeMirror")).to_contain_text("Grace")
    page.click("button:text('Test run')")
    expect(results).to_contain_text("It would have failed")
    expect(results).to_contain_text("large: with.value: steps.price.output.body is null")

    results.get_by_text("Output, made up").click()
    results.get_by_text("Say what it leaves").click()
    expect(page.locator("#id_outcomes + .CodeMirror")).to_contain_text("status")
    admin.write("outcomes", json.dumps({"price": {"output": {"body": {"price": 2399}}}}))
    page.click("button:text('Test run')")
    expect(results).to_contain_text("It would have succeeded")
    expect(results.locator(".fact-step", has_text="large").first).to_contain_text("make the record large/stored-1")
    expect(results).to_contain_text("Output, as you said")
    for width in (1280, 390):
        admin.picture(f"all-test-run-{width}", width=width)
    page.locator("#id_definition + .CodeMirror").scroll_into_view_if_needed()
    admin.picture("workflow-editor", whole=False)
    results.locator(".fact-row").first.scroll_into_view_if_needed()
    admin.picture("test-run", whole=False)
    assert not Run.objects.exists()
    assert not Order.objects.exists()
    assert not Delivery.objects.exists()


def test_what_is_wrong_with_a_test_run_is_told(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    admin.open("workflows/workflow/order-paid/change/")
    results = page.locator("#test-results")
    admin.write("document", "[1]")
    page.click("button:text('Test run')")
    expect(results).to_contain_text("This is an object in braces")
    admin.write("document", '{"type": "order.paid",}')
    page.click("button:text('Test run')")
    expect(results).to_contain_text("The event: Line 1, column 23: this is not JSON")
    admin.write("document", "{}")
    page.click("text=What steps leave")
    admin.write("outcomes", '{"price": {"outptu": 1}}')
    page.click("button:text('Test run')")
    expect(results).to_contain_text('a step leaves {"output": …} or {"error": "…"}')
    page.fill("#id_stored", "no uid")
    page.locator("#id_stored").blur()
    page.wait_for_function(
        "document.getElementById('id_stored').validationMessage.startsWith('There is no such event')"
    )


def test_versions_are_compared_and_an_old_one_is_published_again(admin: Admin, shop: Workflow) -> None:
    page = admin.page
    publish(ORDER_PAID.replace("amount > 1000.0", "amount > 5000.0"))
    version, _ = publish("name: order-paid\nsteps:\n  - {id: sleep, action: delay, with: {for: 1h}}\n")
    start(version, {}, {})
    drain()
    admin.open("workflows/workflow/order-paid/change/#versions")
    expect(page.locator("#versions-group tr", has_text="Version 3")).to_contain_text("2")
    page.click("text=Version 2")
    expect(page.locator("[data-line=removed]")).to_contain_text("event.data.amount > 1000.0")
    expect(page.locator("[data-line=added]")).to_contain_text("event.data.amount > 5000.0")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        page.reload()
        for width in (1280, 390):
            admin.picture(f"all-version-{theme}-{width}", width=width)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.select_option("#compare-with", "3")
    page.click("button:text('Compare')")
    expect(page.get_by_text("From version 2 to version 3:")).to_be_visible()
    page.click("text=Publish this one again")
    expect(page.get_by_text("Publish this version again?")).to_be_visible()
    assert shop.versions.count() == 3
    page.click("#modal-content >> button:has-text('Publish')")
    expect(page.get_by_text("Version 2 is published again, as version 4.")).to_be_visible()
    assert shop.versions.first().source == shop.versions.get(number=2).source  # type: ignore[union-attr]
    expect(page.locator("#id_definition")).to_have_value(shop.versions.get(number=2).source)


def test_a_template_is_seen_while_it_is_written_in_every_language(admin: Admin, shop: Workflow) -> None:
    User.objects.update(email="me@example.com")
    page = admin.page
    admin.open("notifications/template/order-paid/change/")
    preview = page.locator("#preview")
    expect(preview).to_contain_text("Order A-1 paid")
    expect(page.frame_locator(".message-html").get_by_role("heading")).to_have_text("Order A-1")
    assert page.locator(".message-html").get_attribute("sandbox") == ""
    admin.picture("template")
    page.check("#language-de")
    expect(preview).to_contain_text("Bestellung A-1 bezahlt")
    expect(preview).to_contain_text("Ada paid 120.5.")

    admin.write("text", "{{ event.data.customer }}\n{{ event.data.nick }} {{ event.data.title | default: 'no title' }}")
    expect(preview).to_contain_text("text: line 2: event.data.nick is undefined")
    expect(preview).to_contain_text("event.data.title text, line 2")
    expect(page.locator(".editor-problem")).to_have_text("line 2: event.data.nick is undefined")
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)
        for width in (1280, 390):
            admin.picture(f"all-template-mistake-{theme}-{width}", width=width)
    page.set_viewport_size({"width": 1280, "height": 1000})
    admin.write("text", "{{ event.data.title | default: 'no title' }}")
    expect(page.locator(".editor-problem")).to_have_count(0)
    expect(preview).to_contain_text("no title")
    expect(preview).to_contain_text("The template does without")
    admin.write("languages", '{\n  "de": {\n    "text": "{{ event."\n  }\n}')
    expect(page.locator("#id_languages + .CodeMirror .editor-problem")).to_contain_text("de.text: ")
    admin.write("languages", '{"fr": {"text": "Merci, {{ event.data.customer }}"}}')
    page.check("#language-fr")
    expect(preview).to_contain_text("Merci, Ada")

    page.select_option("#id_sample", label=page.locator("#id_sample option", has_text="A-2").inner_text())
    expect(preview).to_contain_text("Merci, Grace")
    page.once("dialog", lambda dialog: dialog.accept())
    admin.open("")


def test_a_test_of_a_template_is_a_delivery_like_any_other(admin: Admin, shop: Workflow, redis_url: str) -> None:
    page = admin.page
    admin.open("notifications/template/order-paid/change/")
    expect(page.get_by_text("Your account has no e-mail address to send it to.")).to_be_visible()
    page.wait_for_load_state("networkidle")  # the preview replaces what stands there
    page.click("text=Add one")
    page.fill("#id_email", "me@example.com")
    page.click("[name=_save]")
    admin.open("notifications/template/order-paid/change/")
    admin.write("subject", "Not saved yet: {{ event.data.order_id }}")
    page.click("button:has-text('Send me a test')")
    page.click("text=see what becomes of it")
    page.once("dialog", lambda dialog: dialog.accept())
    expect(page.locator("#content")).to_contain_text("Not saved yet: A-1")
    delivery = Delivery.objects.get()
    assert (delivery.to, delivery.channel.name, delivery.template, delivery.category) == (
        *("me@example.com", "mail"),
        *("order-paid", "test"),
    )
    admin.open("notifications/template/order-paid/change/")
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("button:text-is('Send')")
    expect(page.locator("#sent")).to_contain_text("It is on its way")
    assert Delivery.objects.filter(channel__name="chat").exists()


def test_workflows_and_templates_are_written_without_javascript_too(admin: Admin, shop: Workflow) -> None:
    browser = admin.page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, storage_state=admin.page.context.storage_state())
    page = context.new_page()
    page.goto(f"{admin.url}/admin/workflows/workflow/order-paid/change/")
    expect(page.locator("#workflow-graph [data-step]")).to_have_count(4)
    expect(page.locator("#test-run")).to_be_hidden()
    page.fill("#id_definition", ORDER_PAID.replace("record.put", "record.putt"))
    page.click("[name=_save]")
    expect(page.get_by_text('line 15: steps[2].action: unknown action "record.putt"').first).to_be_visible()
    page.fill("#id_definition", ORDER_PAID.replace("1000.0", "5000.0"))
    page.click("[name=_save]")
    expect(page.get_by_text("Published as version 2.")).to_be_visible()
    page.goto(f"{admin.url}/admin/notifications/template/order-paid/change/")
    expect(page.locator("#template-preview")).to_be_hidden()
    expect(page.locator("#id_subject")).to_be_visible()
    context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_what_appears_while_somebody_works_can_be_read_by_everybody(admin: Admin, shop: Workflow, theme: Any) -> None:
    page = admin.page
    page.emulate_media(color_scheme=theme)
    version, _ = publish(ORDER_PAID.replace("amount > 1000.0", "amount > 5000.0"))
    admin.open("workflows/workflow/order-paid/change/")
    page.click("button:text('Test run')")
    expect(page.locator("#test-results")).to_contain_text("It would have succeeded")
    for name in ("Input", "Output, made up", "HTML source"):
        page.locator("#test-results").get_by_text(name).first.click()
    admin.write("definition", "name: order-paid\nsteps: []\n")
    expect(page.locator(".editor-problem")).to_be_visible()
    found = list(violations(admin, "a test run", {}))
    page.once("dialog", lambda dialog: dialog.accept())
    admin.open(f"workflows/workflowversion/{version.pk}/change/")
    expect(page.locator("[data-line=added]")).to_be_visible()
    found += violations(admin, "a version", {})
    admin.open("notifications/template/order-paid/change/")
    admin.write("text", "{{ event.data.nick }}{{ event.data.title | default: '-' }}")
    expect(page.locator("#preview")).to_contain_text("event.data.title")
    found += violations(admin, "a template", {})
    page.once("dialog", lambda dialog: dialog.accept())
    admin.open("")
    assert not found, "\n".join(found)
