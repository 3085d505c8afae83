"""`manage.py demo`: tells the example stories to the running stack, and what became of each."""

import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from examples.demo import STORIES, Carillon, Inbox, Json, NoAnswer, Story, shortcomings
from project import envfile

SIGNS = {"matched": "✔", "delivered": "✔", "succeeded": "✔", "filtered": "·", "disabled": "·", "skipped": "·"}


class Command(BaseCommand):
    help = "Call two webhooks and send an event, and print what became of each; exit 1 unless mail and chat arrive."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--seconds", type=float, default=30.0, help="how long each story may take (default: 30)")

    def handle(self, *args: Any, **options: Any) -> None:
        carillon, inbox = self.find()
        missing: list[str] = []
        try:
            seen = {message["id"] for message in inbox.messages()} if inbox else set()
            sent = [(story, carillon.send(story)) for story in STORIES]
            for story, answer in sent:
                trace = carillon.follow(answer["uid"], seconds=options["seconds"])
                self.tell(carillon, story, answer, trace)
                missing += [f"{story.title}: {each}" for each in shortcomings(story, trace)]
            if inbox:
                self.tell_inbox(inbox, [message for message in inbox.messages() if message["id"] not in seen])
        except NoAnswer as error:
            raise CommandError(f"{error}\nIs `make run` running? `manage.py doctor` says what is wrong.") from error
        if missing:
            listed = "\n".join(f"  {each}" for each in missing)
            logs = settings.DATA_DIR / "logs"
            raise CommandError(
                f"Not everything happened:\n{listed}\n`manage.py doctor` and the logs in {logs} say why."
            )
        self.stdout.write(self.style.SUCCESS("All three stories ended in delivered mail and chat."))

    def find(self) -> tuple[Carillon, Inbox | None]:
        """The running stack, by the environment or by the file that `make run` writes."""
        file = settings.DATA_DIR / "carillon.env"
        # As any client would: to the settings, the API key is not for everybody's eyes.
        values = {**envfile.read(file), **os.environ}
        if not values.get("CARILLON_URL") or not values.get("CARILLON_API_KEY"):
            raise CommandError(
                "No running stack was found: CARILLON_URL and CARILLON_API_KEY stand neither in the environment "
                f"nor in {file}. Start one with `make run`."
            )
        inbox = values.get("INBOX_URL")
        carillon = Carillon(values["CARILLON_URL"].rstrip("/"), values["CARILLON_API_KEY"], secrets=values)
        return carillon, Inbox(inbox) if inbox else None

    def tell(self, carillon: Carillon, story: Story, answer: Json, trace: Json) -> None:
        write, title = self.stdout.write, self.style.MIGRATE_HEADING
        write(title(f"── {story.title} {'─' * (95 - len(story.title))}"))
        write(f"event  {story.type} about {story.subject}, from {answer['source']}")
        write(f"       {carillon.url}/api/v1/events/{answer['uid']}/trace")
        write("asked")
        for verdict in trace["subscriptions"]:
            reason = f": {verdict['reason']}" if verdict.get("reason") else ""
            write(f"   {self.mark(verdict['verdict'])} {verdict['name']} {verdict['verdict']}{reason}")
        for run in trace["runs"]:
            write(f"run  {self.mark(run['state'])} {run['workflow']} version {run['version']} {run['state']}")
            for step in run["steps"]:
                self.tell_step(step)
        write("")

    def tell_step(self, step: Json) -> None:
        error = f": {step['error']}" if step["error"] else ""
        self.stdout.write(f"   {self.mark(step['state'])} {step['id']} ({step['action']}) {effect(step)}{error}")
        for delivery in step.get("deliveries") or ():
            to = f" to {delivery['to']}" if delivery["to"] else ""
            self.stdout.write(f"      {self.mark(delivery['state'])} {delivery['channel']}{to}: {delivery['state']}")
            for attempt in delivery["attempts"]:
                said = " ".join(str(part) for part in (attempt["status"], attempt["response"]) if part)
                self.stdout.write(
                    f"        attempt {attempt['number']}: {attempt['outcome']} in {attempt['ms']} ms, {said}"
                )
            if delivery["reason"]:
                self.stdout.write(f"        {delivery['reason']}")

    def tell_inbox(self, inbox: Inbox, messages: list[Json]) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(f"── In the inbox, {inbox.url} {'─' * (78 - len(inbox.url))}"))
        for message in reversed(messages):
            said = message["subject"] or message["text"].splitlines()[0]
            self.stdout.write(f"{message['kind']:<6} {message['to']}: {said}")
        self.stdout.write("")

    def mark(self, state: str) -> str:
        sign = SIGNS.get(state, "✘")
        style = {"✔": self.style.SUCCESS, "✘": self.style.ERROR}.get(sign, str)
        return str(style(sign))


def effect(step: Json) -> str:
    """What a step did, in words."""
    given, left = step["input"] or {}, step["output"] or {}
    match step["action"], left:
        case "database.upsert", {"created": created, "changed": changed, "key": key}:
            what = "added" if created else "changed" if changed else "left as it was"
            return (
                f"{given.get('model', 'the row')} {', '.join(f'{name} {value}' for name, value in key.items())}: {what}"
            )
        case "record.put", {"collection": collection, "key": key, "version": version}:
            return f"{collection} {key}: version {version}"
        case "notify", {"deliveries": sent}:
            return f"{len(sent)} message{'s' * (len(sent) != 1)}"
    return str(step["state"])
