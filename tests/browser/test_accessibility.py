"""Every page of the admin, light and dark: axe-core finds nothing serious, no error is logged, nothing is cut off."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.contrib import admin as django_admin
from django.contrib.auth.models import User
from django.test import RequestFactory
from django.urls import reverse

from tests.browser.conftest import Admin
from tests.project.test_admin import Rows, everything  # noqa: F401  a fixture

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(300)]

IMPACTS: Final = ("serious", "critical")
OTHERS: Final = ("", "?period=day", "start/", "password_change/")
EXCLUDED: Final = {
    ".selector": "Django's two lists with their filters: it gives its help icons a name that ARIA does not allow there",
    ".select2-container": "select2, which Django brings along: its search field has no label",
}
"""What is not ours to mend, and why it is left out."""

BY_ITS_CURSOR: Final = ("scrollable-region-focusable", "CodeMirror-scroll")
"""The editor's text scrolls with its cursor, and the field that has the focus stands beside it: axe cannot see that."""

COLOURS: Final = {"runOnly": ["color-contrast", "link-in-text-block"]}  # what the dark theme may have of its own

DARKEN: Final = """document.documentElement.classList.add('dark'); document.body.offsetWidth;
    document.getAnimations().forEach(each => each.finish())"""  # colours change by transitions

GROUPS: Final = ("events", "workflows", "notifications", "others")


def pages(group: str, rows: Rows) -> Iterator[str]:
    """The addresses below /admin/ of the models of an app: lists, forms, rows, and what can be done with them."""
    if group == "others":
        yield from OTHERS
    request = RequestFactory().get("/")
    request.user = User.objects.get(username="admin")
    options: Any  # unfold's, without types
    for model, options in django_admin.site._registry.items():
        app, name = model._meta.app_label, model._meta.model_name
        if (app if app in GROUPS else "others") != group or app == "inbox":
            continue
        yield _below(f"{app}_{name}_changelist")
        if options.has_add_permission(request):
            yield _below(f"{app}_{name}_add")
        row = rows[model]
        yield _below(f"{app}_{name}_change", row.pk)
        if name in ("channel", "eventtype"):  # the same page for all models
            yield _below(f"{app}_{name}_history", row.pk)
            yield _below(f"{app}_{name}_delete", row.pk)
        for action in options.get_actions_detail(request, str(row.pk)):
            if action.dialog is None:
                yield _below(action.action_name, row.pk)
    if group == "notifications":
        yield "notifications/channel/add/?type=webhook"


def _below(page: str, *args: Any) -> str:
    return reverse(f"admin:{page}", args=args).removeprefix("/admin/")


def violations(admin: Admin, path: str, options: dict[str, Any]) -> Iterator[str]:
    excluded = {"exclude": [[part] for part in EXCLUDED]}
    for found in Axe().run(admin.page, excluded, options).response["violations"]:
        if found["impact"] in IMPACTS:
            for node in found["nodes"]:
                if found["id"] == BY_ITS_CURSOR[0] and BY_ITS_CURSOR[1] in node["html"]:
                    continue
                what, why = node["html"][:160], node["failureSummary"][:200]
                yield f"/admin/{path}: {found['id']} ({found['impact']}): {what} {why}"


@pytest.mark.parametrize("group", GROUPS)
def test_no_page_has_a_serious_violation_or_is_cut_off(admin: Admin, everything: Rows, group: str) -> None:  # noqa: F811
    found: list[str] = []
    for path in pages(group, everything):
        admin.open(path)
        admin.page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")
        found += violations(admin, path, {"resultTypes": ["violations"]})
        picture(admin, path, "light")
        admin.page.evaluate(DARKEN)
        found += violations(admin, path, COLOURS)
        picture(admin, path, "dark")
    assert not found, "\n".join(found)


def picture(admin: Admin, path: str, theme: str) -> None:
    name = "-".join(path.split("?")[0].strip("/").split("/")) or "overview"
    for width in (390, 1280):
        admin.picture(f"all-{name}-{theme}-{width}", width=width)
