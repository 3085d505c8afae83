"""GitHub (https://docs.github.com/webhooks)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, Json, TypeDoc, check_signature, first_text, with_fields
from project.api import BadRequest

_COMMON: Final[dict[str, Json]] = {
    "action": {"type": "string"},
    "ref": {"type": "string"},
    "repository": with_fields("full_name", full_name={"type": "string"}),
    "organization": with_fields("login", login={"type": "string"}),
    "sender": with_fields("login", login={"type": "string"}),
    "installation": with_fields(),
    "commits": {"type": "array"},
    "pages": {"type": "array"},
}

# Name: the fields that are always there, and what happened.
_EVENTS: Final = {
    "branch_protection_rule": ("action rule repository", "A branch protection rule was made, edited or deleted."),
    "check_run": ("action check_run repository", "A check run was made, completed, or asked for again."),
    "check_suite": ("action check_suite repository", "A check suite was asked for or completed."),
    "code_scanning_alert": ("action alert repository", "Code scanning found, closed or reopened an alert."),
    "commit_comment": ("action comment repository", "A commit was commented on."),
    "create": ("ref ref_type repository", "A branch or a tag was made."),
    "delete": ("ref ref_type repository", "A branch or a tag was deleted."),
    "dependabot_alert": ("action alert repository", "Dependabot found, closed or reopened an alert."),
    "deploy_key": ("action key repository", "A deploy key was added or removed."),
    "deployment": ("action deployment repository", "A deployment was made."),
    "deployment_review": ("action workflow_run repository", "A deployment was approved, refused or asked for."),
    "deployment_status": ("action deployment_status deployment repository", "A deployment has another status."),
    "discussion": ("action discussion repository", "A discussion was opened, changed, answered or closed."),
    "discussion_comment": ("action comment discussion repository", "A discussion was commented on."),
    "fork": ("forkee repository", "A repository was forked."),
    "github_app_authorization": ("action sender", "Somebody revoked their authorization of a GitHub App."),
    "gollum": ("pages repository", "Wiki pages were made or edited."),
    "installation": ("action installation", "A GitHub App was installed, changed or removed."),
    "installation_repositories": ("action installation", "A GitHub App was given other repositories."),
    "issue_comment": ("action issue comment repository", "An issue or a pull request was commented on."),
    "issues": ("action issue repository", "An issue was opened, changed or closed."),
    "label": ("action label repository", "A label was made, edited or deleted."),
    "marketplace_purchase": ("action marketplace_purchase", "A plan was bought, changed or cancelled."),
    "member": ("action member repository", "A collaborator was added, changed or removed."),
    "membership": ("action member team", "Somebody joined or left a team."),
    "merge_group": ("action merge_group repository", "A merge queue made or dissolved a group."),
    "meta": ("action hook_id", "The webhook itself was deleted."),
    "milestone": ("action milestone repository", "A milestone was made, changed or closed."),
    "org_block": ("action blocked_user organization", "An organization blocked or unblocked somebody."),
    "organization": ("action organization", "An organization or its members changed."),
    "package": ("action package", "A package was published or updated."),
    "page_build": ("build repository", "GitHub Pages were built."),
    "project": ("action project", "A classic project changed."),
    "project_card": ("action project_card", "A card of a classic project changed."),
    "project_column": ("action project_column", "A column of a classic project changed."),
    "projects_v2_item": ("action projects_v2_item", "An item of a project changed."),
    "public": ("repository", "A repository was made public."),
    "pull_request": ("action number pull_request repository", "A pull request was opened, changed or closed."),
    "pull_request_review": ("action review pull_request repository", "A pull request was reviewed."),
    "pull_request_review_comment": ("action comment pull_request repository", "A review was commented on."),
    "pull_request_review_thread": ("action thread pull_request repository", "A review's thread was resolved or not."),
    "push": ("ref before after commits repository", "Commits or tags were pushed."),
    "release": ("action release repository", "A release was made, published, edited or deleted."),
    "repository": ("action repository", "A repository was made, changed, moved or deleted."),
    "repository_dispatch": ("action repository", "Somebody sent an event of their own by GitHub's API."),
    "repository_import": ("status repository", "A repository was imported, or could not be."),
    "repository_vulnerability_alert": ("action alert repository", "A dependency's weakness was found or dealt with."),
    "security_advisory": ("action security_advisory", "A security advisory was published or changed."),
    "sponsorship": ("action sponsorship", "A sponsorship began, changed or ended."),
    "star": ("action repository", "A repository was starred, or no longer is."),
    "status": ("sha state context repository", "A commit has another status."),
    "team": ("action team", "A team was made, changed or deleted."),
    "team_add": ("team repository", "A team was given a repository."),
    "watch": ("action repository", "A repository was starred."),
    "workflow_dispatch": ("ref workflow repository", "A workflow was started by hand or by the API."),
    "workflow_job": ("action workflow_job repository", "A job of GitHub Actions was queued, began or completed."),
    "workflow_run": ("action workflow_run repository", "A workflow run of GitHub Actions began or completed."),
}


def _schema(required: str) -> Json:
    # What is not among the common fields is what the event is about: an object. The few texts are told apart.
    texts = {"ref_type", "sha", "state", "status", "context", "workflow", "before", "after"}
    others = {
        name: {"type": "string" if name in texts else "integer" if name in ("number", "hook_id") else "object"}
        for name in required.split()
        if name not in _COMMON
    }
    return with_fields(required, **_COMMON, **others)


@adapters.register("github")
class GitHub(Adapter):
    """Repositories, organizations and apps on GitHub: pushes, pull requests, workflow runs and the rest."""

    secret: ClassVar[str] = "The webhook's secret: Settings, Webhooks of the repository or organization on GitHub."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        f"github.{name}": TypeDoc(description, _schema(required)) for name, (required, description) in _EVENTS.items()
    }
    family: ClassVar[str] = "github."
    common: ClassVar[Json] = with_fields(**_COMMON)
    keeps: ClassVar[tuple[str, ...]] = ("x-github-", "x-hub-signature-256")

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        # X-Hub-Signature, by SHA-1, is for old receivers only and not looked at.
        given = call.header("x-hub-signature-256")
        check_signature([given.removeprefix("sha256=")], call.body, map(str.encode, secrets))

    def answer(self, call: Call) -> Json | None:
        return {"pong": call.object.get("zen")} if call.headers.get("x-github-event") == "ping" else None

    def translate(self, call: Call) -> list[Incoming]:
        event, data = call.headers.get("x-github-event", ""), call.object
        if not re.fullmatch(r"[a-z0-9_]{1,100}", event):
            raise BadRequest("The header X-GitHub-Event does not name an event.")
        subject = first_text(data, "repository.full_name", "organization.login", "sender.login")
        return [Incoming(f"github.{event}", data, id=call.headers.get("x-github-delivery", ""), subject=subject)]
