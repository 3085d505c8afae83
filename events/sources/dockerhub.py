"""Docker Hub (https://docs.docker.com/docker-hub/repos/manage/webhooks/)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from events.cloudevents import Incoming
from events.sources import adapters
from events.sources.base import Adapter, Call, TypeDoc, check_same, field, first_text, moment, with_fields


@adapters.register("dockerhub")
class DockerHub(Adapter):
    """Images that were pushed to Docker Hub, which signs nothing: the address itself holds the secret."""

    secret: ClassVar[str] = "A long random text of your own; the webhook's URL on Docker Hub ends with ?token= and it."
    types: ClassVar[Mapping[str, TypeDoc]] = {
        "dockerhub.push": TypeDoc(
            "An image was pushed.",
            with_fields(
                "push_data repository",
                push_data=with_fields("tag", tag={"type": ["string", "null"]}),
                repository=with_fields("repo_name", repo_name={"type": "string"}),
            ),
        )
    }

    def verify(self, call: Call, secrets: Sequence[str]) -> None:
        given = [call.query["token"]] if "token" in call.query else []
        check_same(given, secrets, "The address must end with ?token= and the source's secret.")

    def translate(self, call: Call) -> list[Incoming]:
        data = call.object
        subject, at = first_text(data, "repository.repo_name"), moment(field(data, "push_data.pushed_at"))
        return [Incoming("dockerhub.push", data, subject=subject, time=at)]
