"""Configuration from files: what is refused and where, and what becomes of rows."""

from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from events.models import Event, EventSchema, EventType, Source, Subscription
from notifications.models import Channel, Delivery, Recipient, Template
from project.apply import Change, Outcome, Rejected, apply, read_files
from project.configuration import _revision
from workflows.models import Run, Workflow, WorkflowVersion

pytestmark = pytest.mark.django_db

SHOP = """
    kind: Subscription
    name: paid-orders
    types: [order.paid]
    sources: [shop]
    filter: event.data.amount > 100.0
    workflow: order-paid
    ---
    kind: Workflow   # stands before what it needs
    name: order-paid
    # why: the chat wants to know
    steps:
      - {id: tell, action: notify, with: {to: [channel:chat], template: order-paid}}
    ---
    kind: Template
    name: order-paid
    text: "{{ event.data.amount }}"
    ---
    kind: Channel
    name: chat
    type: slack
    settings: {url: https://example.com/hook/0123456789}
    fallback: mail
    ---
    kind: Channel
    name: mail
    type: email
    default: true
    settings: {to: ops@example.com}
    ---
    kind: EventType
    name: order.paid
    schema: {type: object, required: [amount]}
    example: {amount: 3}
    ---
    kind: Source
    name: shop
    secret: very-secret-text
    rate_limit: 500/s
"""


def written(folder: Path, *texts: str) -> Path:
    for number, text in enumerate(texts):
        (folder / f"{number}.yaml").write_text(dedent(text).lstrip("\n"))
    return folder


def applied(folder: Path, *texts: str, **options: Any) -> list[Change]:
    return apply(read_files([written(folder, *texts)]), **options)


def outcomes(changes: list[Change]) -> dict[str, Outcome]:
    return {f"{change.kind} {change.name}": change.outcome for change in changes}


def problems(folder: Path, *texts: str) -> list[str]:
    with pytest.raises(Rejected) as caught:
        applied(folder, *texts)
    return [str(problem).removeprefix(f"{folder}/") for problem in caught.value.problems]


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_TEXTS = {
    "not YAML": ("a: [1", ["0.yaml:2: not YAML"]),
    "a key twice": ("kind: Source\nname: a\nname: b", ['0.yaml:3: the key "name" stands here twice']),
    "a tag": ("kind: !!python/name:os.system x", ["0.yaml:1: the tag"]),
    "not a map": ("- kind: Source", ["0.yaml:1: a document is a map with kind, name and more; the kinds are Channel"]),
    "no kind": ("name: a", ["0.yaml:1: a document is a map with kind, name and more"]),
    "an unknown kind": (
        "kind: Robot\nname: nightly",
        [
            '0.yaml:1: unknown kind "Robot"',
            "known: Channel, EventType, Recipient, Schedule, Source, Subscription, Template",
        ],
    ),
    "a mistyped kind": ("name: a\nkind: Sorce", ['0.yaml:2: unknown kind "Sorce", did you mean "Source"?']),
    "no name": ("kind: Source", ["0.yaml:1: name: this field is required"]),
    "a name that is no text": ("kind: Source\nname: 5", ["0.yaml:2: name: should be text, not 5"]),
    "a bad name": ("kind: Source\nname: A B", ["0.yaml:2: name: Small letters, digits"]),
    "twice": (
        "kind: Source\nname: a\n---\nkind: Source\nname: a",
        ["0.yaml:4: Source a stands twice; the first is in ", "0.yaml:1"],
    ),
    "an unknown field": (
        "kind: Source\nname: a\nratelimit: 5/s",
        ['0.yaml:3: ratelimit: unknown field "ratelimit", did you mean "rate_limit"?'],
    ),
    "a field of another type": ("kind: Source\nname: a\nenabled: maybe", ["0.yaml:3: enabled: ", 'not "maybe"']),
    "a bad rate": ("kind: Source\nname: a\nrate_limit: fast", ['0.yaml:3: rate_limit: "fast" is not a rate']),
    "an unknown adapter": (
        "kind: Source\nname: a\nadapter: fax",
        ['0.yaml:3: adapter: unknown adapter "fax"', "known: "],
    ),
    "a schema that is none": (
        "kind: EventType\nname: a\nschema:\n  type: objekt",
        ["0.yaml:3: schema: type: "],
    ),
    "an example against its schema": (
        "kind: EventType\nname: a\nschema: {type: object, required: [b]}\nexample: {}",
        ['0.yaml:4: example: example: "b" is a required property (schema a v1)'],
    ),
    "unknown types, source and workflow": (
        "kind: EventType\nname: order.paid\n---\n"
        "kind: Subscription\nname: a\ntypes: [order.payed, 'x*y']\nsources: [nowhere]\nworkflow: none\n"
        "filter: event.x >",
        [
            '0.yaml:6: types: unknown event type "order.payed", did you mean "order.paid"?',
            '0.yaml:6: types: "x*y" is no pattern: a * stands only at the end',
            '0.yaml:7: sources: unknown source "nowhere"; known: none',
            '0.yaml:8: workflow: unknown workflow "none"; known: none',
            "0.yaml:9: filter: line 1, column 10: ",
        ],
    ),
    "no types": (
        "kind: Subscription\nname: a\ntypes: []\nworkflow: w",
        ["0.yaml:3: types: This field cannot be blank."],
    ),
    "an unknown channel type": (
        "kind: Channel\nname: a\ntype: fax",
        ['0.yaml:3: type: unknown channel type "fax"', "slack"],
    ),
    "settings of another type": (
        "kind: Channel\nname: a\ntype: slack\nsettings:\n  hook: https://example.com\n  url: ftp://example.com",
        ["0.yaml:5: settings.hook: unknown setting; known: url"],
    ),
    "an inner address": (
        "kind: Channel\nname: a\ntype: slack\nsettings:\n  url: http://192.168.1.1/",
        ["0.yaml:5: settings.url: 192.168.1.1 is a private or reserved address"],
    ),
    "a bad schedule and rate": (
        "kind: Channel\nname: a\ntype: email\nretry_schedule: [0s, soon]\nrate_limit: 1/y",
        ['0.yaml:4: retry_schedule: "soon" is not a duration', '0.yaml:5: rate_limit: "1/y" is not a rate'],
    ),
    "an unknown fallback": (
        "kind: Channel\nname: a\ntype: email\nfallback: b",
        ['0.yaml:4: fallback: unknown channel "b"; known: none'],
    ),
    "fallbacks in a circle": (
        "kind: Channel\nname: a\ntype: email\nfallback: b\n---\nkind: Channel\nname: b\ntype: email\nfallback: a",
        ["Channels go in a circle: "],
    ),
    "itself as fallback": ("kind: Channel\nname: a\ntype: email\nfallback: a", ["0.yaml:4: fallback: "]),
    "two defaults of a type": (
        "kind: Channel\nname: a\ntype: email\ndefault: true\n---\nkind: Channel\nname: b\ntype: email\ndefault: true",
        ["default: The default channel of the type email is a; there is one."],
    ),
    "a template that is not Liquid": (
        'kind: Template\nname: a\nsubject: "{{ x"\nlanguages:\n  de:\n    text: "{% if x %}"\n    body: x',
        [
            "0.yaml:3: subject: ",
            "0.yaml:6: languages.de.text: ",
            "0.yaml:7: languages.de.body: unknown part; known: subject",
        ],
    ),
    "an empty template": ("kind: Template\nname: a", ["a template says nothing without a subject, a text or html"]),
    "a bad language": (
        "kind: Template\nname: a\ntext: x\nlanguages: {german!: {}}",
        ['"german!" is not a language tag'],
    ),
    "a recipient with everything wrong": (
        "kind: Recipient\nname: a\naddresses:\n  email: nobody\n  fax: '1'\nlanguage: english please\n"
        "time_zone: Europe/Lundon\ntopics: [On Call]\npreferences: {ads: {email: 'no'}, news: true}\n"
        "quiet_hours: {from: '25:00', to: '07:00'}",
        [
            '0.yaml:4: addresses.email: "nobody" is not an e-mail address',
            '0.yaml:5: addresses.fax: unknown kind of address "fax"; known: email',
            '0.yaml:6: language: "english please" is not a language tag',
            '0.yaml:7: time_zone: unknown time zone "Europe/Lundon"; did you mean "Europe/London"?',
            '0.yaml:8: topics: "On Call": Small letters',
            "0.yaml:9: preferences.ads.email: must be true or false",
            "0.yaml:9: preferences.news: must say for each kind of channel whether",
            "0.yaml:10: quiet_hours.from: '25:00' is not a time of day",
        ],
    ),
    "a workflow with faults, at its lines in the file": (
        "kind: Template\nname: t\ntext: x\n---\n# first\nkind: Workflow\nname: w\nenabled: true\nsteps:\n"
        "  - id: a\n    action: notifi\n  - id: b\n    action: notify\n    with: {to: [channel:c], template: tt}\n",
        [
            '0.yaml:11: steps[0].action: unknown action "notifi", did you mean "notify"?',
            '0.yaml:14: steps[1].with.template: unknown template "tt"',
            "0.yaml:14: steps[1].with.to[0]: ",
        ],
    ),
    "a workflow that is neither on nor off": (
        "kind: Workflow\nname: w\nenabled: perhaps\nsteps: [{id: a, action: fail, with: {message: x}}]",
        ['0.yaml:3: enabled: should be true or false, not "perhaps"'],
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_a_bad_document_is_refused_at_its_line(tmp_path: Path, text: str, expected: list[str]) -> None:
    told = "\n".join(problems(tmp_path, text))
    assert [part for part in expected if part not in told] == [], told


def test_what_only_refers_to_a_bad_document_is_not_called_bad(tmp_path: Path) -> None:
    told = problems(
        tmp_path,
        SHOP.replace('"{{ event.data.amount }}"', '"{{ event.data.amount "')
        .replace("type: slack", "type: slak")
        .replace("required: [amount]", "required: amount")
        .replace("rate_limit: 500/s", "rate_limit: 500"),
    )
    assert [problem.split(": ")[1] for problem in told] == ["text", "type", "schema", "rate_limit"]


def test_nothing_is_stored_when_one_document_of_many_files_is_bad(tmp_path: Path) -> None:
    told = problems(tmp_path, SHOP, "kind: Template\nname: x\nsubjekt: x", "kind: Source\nname: UP")
    assert [problem.split(": ")[0] for problem in told] == ["1.yaml:3", "2.yaml:2"]
    assert not any(model.objects.exists() for model in (Source, EventType, Channel, Template, Workflow, Subscription))


def test_files_that_cannot_be_read_are_told_together(tmp_path: Path) -> None:
    folder = written(tmp_path, "a: [", "}")
    (folder / "empty").mkdir()
    (folder / "latin.yml").write_bytes(b"name: \xff")
    with pytest.raises(Rejected) as caught:
        read_files([folder, folder / "missing.yaml", folder / "empty"])
    files = {Path(problem.file).name for problem in caught.value.problems}
    assert files == {"0.yaml", "1.yaml", "latin.yml", "missing.yaml", "empty"}


# --- what becomes of rows --------------------------------------------------------------------------------------------


def test_documents_are_applied_in_the_order_they_need_and_once(tmp_path: Path) -> None:
    assert set(outcomes(applied(tmp_path, SHOP)).values()) == {Outcome.CREATED}
    subscription = Subscription.objects.get()
    assert (subscription.workflow.name, subscription.sources.get().name) == ("order-paid", "shop")
    assert Channel.objects.get(name="chat").fallback == Channel.objects.get(name="mail")
    assert Source.objects.get().secret == "very-secret-text"
    assert "# why: the chat wants to know" in WorkflowVersion.objects.get().source
    assert EventSchema.objects.get().version == 1

    with CaptureQueriesContext(connection) as queries:
        again = applied(tmp_path, SHOP)
    assert set(outcomes(again).values()) == {Outcome.UNCHANGED}
    assert [query["sql"] for query in queries if query["sql"].startswith(("INSERT", "UPDATE", "DELETE"))] == []


def test_only_what_changed_is_changed(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    Channel.objects.filter(name="chat").update(hold_reason="kept")
    changes = applied(
        tmp_path,
        SHOP.replace("fallback: mail", "rate_limit: 1/s")
        .replace("required: [amount]", "required: [amount, customer]")
        .replace("example: {amount: 3}", "example: {amount: 3, customer: Ada}")
        .replace("sources: [shop]", "enabled: false")
        .replace("template: order-paid}", "template: order-paid, priority: high}"),
    )
    changed = {name for name, outcome in outcomes(changes).items() if outcome is Outcome.CHANGED}
    assert changed == {"Channel chat", "EventType order.paid", "Subscription paid-orders", "Workflow order-paid"}
    chat = Channel.objects.get(name="chat")
    assert (chat.fallback, chat.rate_limit, chat.hold_reason) == (None, "1/s", "kept")
    assert [schema.version for schema in EventSchema.objects.all()] == [2, 1]
    assert [version.number for version in WorkflowVersion.objects.all()] == [2, 1]
    assert not Subscription.objects.get().sources.exists()


def test_a_document_without_schema_or_secret_leaves_them_alone(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    changes = applied(
        tmp_path,
        "kind: EventType\nname: order.paid\nexample: {amount: 3}\n---\nkind: Source\nname: shop\nrate_limit: 500/s",
    )
    assert set(outcomes(changes).values()) == {Outcome.UNCHANGED}
    assert Source.objects.get().secret == "very-secret-text"


def test_a_secret_that_changes_is_a_change_without_being_shown(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    changes = applied(tmp_path, SHOP.replace("very-secret-text", "another-secret").replace("0123456789", "9876543210"))
    differences = {
        f"{change.kind} {change.name}": change.difference for change in changes if change.outcome is Outcome.CHANGED
    }
    assert differences == {"Channel chat": "", "Source shop": ""}


def test_the_default_passes_from_one_channel_to_another(tmp_path: Path) -> None:
    both = "kind: Channel\nname: a\ntype: email\ndefault: {}\n---\nkind: Channel\nname: b\ntype: email\ndefault: {}\n"
    applied(tmp_path, both.format("false", "true"))
    assert outcomes(applied(tmp_path, both.format("true", "false"))) == {"Channel a": "changed", "Channel b": "changed"}
    assert Channel.objects.get(default=True).name == "a"


def test_a_workflow_is_switched_off_and_on_without_a_new_version(tmp_path: Path) -> None:
    text = "kind: Workflow\nname: w\nenabled: {}\nsteps: [{{id: a, action: fail, with: {{message: x}}}}]"
    applied(tmp_path, text.format("false"))
    assert not Workflow.objects.get().enabled
    assert outcomes(applied(tmp_path, text.format("true"))) == {"Workflow w": Outcome.CHANGED}
    assert Workflow.objects.get().enabled
    assert WorkflowVersion.objects.count() == 1


def test_a_dry_run_tells_the_difference_and_changes_nothing(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    before = _revision()
    changes = applied(tmp_path, SHOP.replace("amount > 100.0", "amount > 50.0"), dry_run=True)
    [difference] = [change.difference for change in changes if change.outcome is Outcome.CHANGED]
    assert "-filter: event.data.amount > 100.0\n+filter: event.data.amount > 50.0" in difference
    assert Subscription.objects.get().filter == "event.data.amount > 100.0"
    assert before == _revision()


# --- prune -----------------------------------------------------------------------------------------------------------


def test_pruning_deletes_what_is_in_no_document_of_the_applied_kinds(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    Recipient.objects.create(name="ada")
    Template.objects.create(name="old", text="x")
    Workflow.objects.create(name="old")
    changes = applied(tmp_path, SHOP, prune=True)
    gone = {name for name, outcome in outcomes(changes).items() if outcome is Outcome.DELETED}
    assert gone == {"Template old", "Workflow old"}
    assert Recipient.objects.exists(), "no document is a Recipient"


def test_pruning_disables_what_facts_refer_to(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    event = Event.objects.create(source="/shop/eu", type="order.paid", event_id="1", time="2026-01-01T00:00:00Z")
    version = WorkflowVersion.objects.get()
    Run.objects.create(workflow=version.workflow, version=version, origin=event.uid, trigger="paid-orders", input={})
    Delivery.objects.create(channel=Channel.objects.get(name="chat"), kind="slack", message={})
    rest = """
        {kind: Subscription, name: s, types: ["*"], workflow: w}
        ---
        {kind: Workflow, name: w, steps: [{id: a, action: fail, with: {message: x}}]}
        ---
        {kind: Source, name: other}
        ---
        {kind: EventType, name: other}
        ---
        {kind: Channel, name: mail, type: email, default: true, settings: {to: ops@example.com}}
    """
    changes = applied(tmp_path, rest, prune=True)
    assert {f"{c.kind} {c.name}": c.reason for c in changes if c.outcome is Outcome.DISABLED} == {
        "Subscription paid-orders": "runs",
        "Workflow order-paid": "runs",
        "Source shop": "events",
        "EventType order.paid": "events",
        "Channel chat": "deliveries",
    }
    assert EventType.objects.get(name="order.paid").retired
    assert {c.outcome for c in applied(tmp_path, rest, prune=True)} == {Outcome.UNCHANGED}


def test_pruning_is_refused_where_something_left_would_break(tmp_path: Path) -> None:
    applied(tmp_path, SHOP)
    told = problems_of_pruning(tmp_path, "kind: Template\nname: other\ntext: x")
    assert any(
        "Workflow order-paid: would be left with: " in each and 'unknown template "order-paid"' in each for each in told
    )
    told = problems_of_pruning(tmp_path, "kind: EventType\nname: other")
    assert told == ['Subscription paid-orders: would be left with: unknown event type "order.paid"; known: other']
    told = problems_of_pruning(tmp_path, "kind: Workflow\nname: w\nsteps: [{id: a, action: fail, with: {message: x}}]")
    assert told == ["Workflow order-paid: cannot be deleted, for it is used by: subscription paid-orders"]


def problems_of_pruning(folder: Path, text: str) -> list[str]:
    with pytest.raises(Rejected) as caught:
        applied(folder, text, prune=True)
    return [str(problem) for problem in caught.value.problems]


# --- the commands ----------------------------------------------------------------------------------------------------


def test_apply_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(written(tmp_path, SHOP))
    call_command("apply", folder, "--dry-run")
    told = capsys.readouterr().out
    assert "+ Subscription paid-orders (created)" in told
    assert "    +filter: event.data.amount > 100.0" in told
    assert "Nothing was changed; it would be: 7 created." in told
    assert "very-secret" not in told
    assert "0123456789" not in told
    call_command("apply", folder)
    assert capsys.readouterr().out.endswith("Applied: 7 created.\n")
    call_command("apply", folder)
    assert capsys.readouterr().out == "Nothing to change: 7 unchanged.\n"


def test_apply_tells_every_problem_and_fails(tmp_path: Path) -> None:
    folder = written(tmp_path, "kind: Source\nname: A", "kind: Sauce\nname: a")
    with pytest.raises(
        CommandError, match=r"0\.yaml:2: name: (.|\n)*1\.yaml:1: unknown kind (.|\n)*applied: 2 problems\."
    ):
        call_command("apply", str(folder))


def test_apply_mentions_variables_that_are_not_set_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "kind: Channel\nname: chat\ntype: slack\nsettings:\n  url: ${NOT_SET_ANYWHERE}"
    call_command("apply", str(written(tmp_path, text)))
    assert "0.yaml:4: ${NOT_SET_ANYWHERE} is not set here" in capsys.readouterr().err
    assert Channel.objects.get().settings == {"url": "${NOT_SET_ANYWHERE}"}


@pytest.mark.parametrize(("answer", "left"), [("y", []), ("n", ["old"]), (None, ["old"])])
def test_apply_asks_before_it_prunes(
    tmp_path: Path,
    answer: str | None,
    left: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def answered(question: str) -> str:
        if answer is None:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", answered)
    Source.objects.create(name="old")
    folder = str(written(tmp_path, "kind: Source\nname: new"))
    if left:
        with pytest.raises(CommandError, match=r"Nothing was applied\."):
            call_command("apply", folder, "--prune")
    else:
        call_command("apply", folder, "--prune")
    assert "In no document:\n- Source old (deleted)" in capsys.readouterr().out
    assert list(Source.objects.exclude(name="new").values_list("name", flat=True)) == left


def test_apply_prunes_without_asking_when_told_so(tmp_path: Path) -> None:
    Source.objects.create(name="old")
    call_command("apply", str(written(tmp_path, "kind: Source\nname: new")), "--prune", "--yes")
    assert [source.name for source in Source.objects.all()] == ["new"]


FORGE = """\
kind: Source
name: forge
adapter: github
secret: ${FORGE_SECRET}
"""
PUSH = "kind: EventType\nname: github.push\nschema: {required: [ref]}\n"


def test_a_webhook_source_brings_its_event_types_and_pruning_leaves_them(tmp_path: Path) -> None:
    call_command("apply", str(written(tmp_path, FORGE, PUSH)))
    assert EventType.objects.get(name="github.push").schemas.get().schema == {"required": ["ref"]}
    brought = EventType.objects.filter(name__startswith="github.").count()
    assert brought > 50
    folder = str(written(tmp_path, FORGE, PUSH))
    changes = apply(read_files([Path(folder)]), prune=True)
    assert {change.outcome for change in changes} == {Outcome.UNCHANGED}
    assert EventType.objects.count() == brought

    gone = tmp_path / "gone"
    gone.mkdir()
    call_command(
        "apply", str(written(gone, "kind: Source\nname: other", "kind: EventType\nname: x")), "--prune", "--yes"
    )
    assert list(EventType.objects.values_list("name", flat=True)) == ["x"]


def test_secrets_that_a_file_leaves_out_are_kept_and_empty_ones_removed(tmp_path: Path) -> None:
    call_command("apply", str(written(tmp_path, FORGE + "previous_secret: old")))
    call_command("apply", str(written(tmp_path, FORGE.replace("secret: ${FORGE_SECRET}\n", "description: x"))))
    source = Source.objects.get()
    assert (source.secret, source.previous_secret, source.description) == ("${FORGE_SECRET}", "old", "x")
    call_command("apply", str(written(tmp_path, FORGE + "previous_secret: ''")))
    assert Source.objects.get().previous_secret == ""
