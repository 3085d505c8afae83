"""AWS, for SQS and SNS, through boto3."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from project.brokers.connection import Connection
from project.brokers.urls import problems_of


class AwsConnection(Connection):
    """A region, and who we are there; without a key, boto3 looks where it always does (variables, profile, role)."""

    library: ClassVar[str] = "boto3"

    region: str = Field("", title="Region", description="For example eu-central-1. Empty: as boto3 finds it.")
    endpoint: str = Field(
        "", title="Endpoint", description="Only for what is not AWS itself, for example http://localstack:4566."
    )
    access_key: str = Field("", title="Access key ID", description="Empty: as boto3 finds it.")
    secret_key: SecretStr | None = Field(
        None, title="Secret access key", description="Keep it in a variable: ${AWS_SECRET_ACCESS_KEY}."
    )

    def check(self) -> Iterable[tuple[str, str]]:
        yield from super().check()
        if self.endpoint:
            yield from problems_of("endpoint", self.endpoint, "http", "https")
        if bool(self.access_key) != bool(self.secret_key):
            yield "access_key", "the two halves of a key come together or not at all"

    def client(self, service: str, *, read_timeout: float = 30, connections: int = 10) -> Any:
        """A client of "sqs" or "sns"; threads may share it.

        Raises botocore.exceptions.BotoCoreError where region or credentials are missing.
        """
        import boto3
        from botocore.config import Config

        return boto3.client(
            service,
            region_name=self.region or None,
            endpoint_url=self.endpoint or None,
            aws_access_key_id=self.access_key or None,
            aws_secret_access_key=self.secret_key.get_secret_value() if self.secret_key else None,
            config=Config(
                connect_timeout=5,
                read_timeout=read_timeout,
                max_pool_connections=connections,
                retries={"total_max_attempts": 1},  # who asks tries again by its own rules
            ),
        )
