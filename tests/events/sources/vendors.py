"""The vendors as they call: what they send, and how they prove that it is theirs.

The proofs are made by the vendors' own libraries where they sign, else by the few lines that the vendor documents;
never by the code that is tested.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import standardwebhooks
import stripe as stripe_library
from django.utils import timezone
from slack_sdk.signature import Clock, SignatureVerifier

from tests.events.sources import amazon

PAYLOADS: Final = Path(__file__).parent / "payloads"
EXAMPLES: Final = Path(__file__).parents[3] / "examples" / "payloads"

Headers = Mapping[str, str]
JSON: Final = {"Content-Type": "application/json"}


def as_it_is(body: bytes, now: datetime) -> bytes:
    return body


@dataclass(frozen=True)
class Vendor:
    """How an adapter's calls look. `prove` gets the body, a secret and the time, and returns the headers."""

    payload: Path
    prove: Callable[[bytes, str, datetime], Headers]
    type: str
    subject: str
    id: str = ""  # empty: a hash of the body
    proof: str = ""  # the header without which nothing is proved; empty: it is in the body or the address
    wrong: Callable[[bytes, str, datetime], Headers] | None = None  # the same by another algorithm
    signed: bool = True  # the body is; else only a password is shown
    timed: bool = False  # a time is signed
    secret: str = "It's a Secret to Everybody"
    other_secret: str = "the one that comes next"
    settings: Mapping[str, Any] = field(default_factory=dict)
    query: str = ""
    dress: Callable[[bytes, datetime], bytes] = as_it_is  # the body as it is sent at this time

    @property
    def body(self) -> bytes:
        return self.dress(self.payload.read_bytes(), timezone.now())


def hexdigest(secret: str, content: bytes, algorithm: str = "sha256") -> str:
    return hmac.new(secret.encode(), content, getattr(hashlib, algorithm)).hexdigest()


def github(body: bytes, secret: str, now: datetime) -> Headers:
    """https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries"""
    return {
        **JSON,
        "X-GitHub-Event": "workflow_run",
        "X-GitHub-Delivery": "72d3162e-cc78-11e3-81ab-4c9367dc0958",
        "X-Hub-Signature-256": f"sha256={hexdigest(secret, body)}",
    }


def github_sha1(body: bytes, secret: str, now: datetime) -> Headers:
    sha1 = hexdigest(secret, body, "sha1")
    return {**github(body, secret, now), "X-Hub-Signature": f"sha1={sha1}", "X-Hub-Signature-256": f"sha1={sha1}"}


def timed_hmac(body: bytes, secret: str, now: datetime) -> Headers:
    """A sender of one's own."""
    stamp = str(int(now.timestamp()))
    signature = hexdigest(secret, stamp.encode() + b"." + body, "sha512")
    return {**JSON, "X-Shop-Time": stamp, "X-Shop-Signature": f"v1={signature}", "X-Shop-Event": "paid"}


def timed_hmac_sha256(body: bytes, secret: str, now: datetime) -> Headers:
    right = timed_hmac(body, secret, now)
    signature = hexdigest(secret, right["X-Shop-Time"].encode() + b"." + body)
    return {**right, "X-Shop-Signature": f"v1={signature}"}


def gitlab_token(body: bytes, secret: str, now: datetime) -> Headers:
    """https://docs.gitlab.com/user/project/integrations/webhooks/#delivery-headers"""
    return {
        **JSON,
        "X-Gitlab-Event": "Pipeline Hook",
        "X-Gitlab-Token": secret,
        "Idempotency-Key": "f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
    }


def gitlab_signed(body: bytes, secret: str, now: datetime) -> Headers:
    """By GitLab's signing token, which follows Standard Webhooks."""
    signed = standard(body, secret, now)
    headers = {name: value for name, value in gitlab_token(body, "", now).items() if name != "X-Gitlab-Token"}
    return {**headers, **signed}


def standard(body: bytes, secret: str, now: datetime) -> Headers:
    """Signed by the library of Standard Webhooks."""
    message = "msg_p5jXN8AQM9LWM0D4loKWxJek"
    signature = standardwebhooks.Webhook(secret).sign(message, now, body.decode(errors="replace"))
    return {
        **JSON,
        "Webhook-Id": message,
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": signature,
    }


def svix(body: bytes, secret: str, now: datetime) -> Headers:
    return {name.replace("Webhook-", "Svix-"): value for name, value in standard(body, secret, now).items()}


def standard_sha512(body: bytes, secret: str, now: datetime) -> Headers:
    right = standard(body, secret, now)
    content = f"{right['Webhook-Id']}.{right['Webhook-Timestamp']}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return {**right, "Webhook-Signature": f"v1,{base64.b64encode(hmac.digest(key, content, 'sha512')).decode()}"}


def bitbucket(body: bytes, secret: str, now: datetime) -> Headers:
    """https://support.atlassian.com/bitbucket-cloud/docs/manage-webhooks/#Secure-webhooks; each try has another UUID"""
    uuid = hashlib.md5(str(now).encode()).hexdigest()
    signature = f"sha256={hexdigest(secret, body)}"
    return {**JSON, "X-Event-Key": "repo:push", "X-Request-UUID": uuid, "X-Hub-Signature": signature}


def bitbucket_sha1(body: bytes, secret: str, now: datetime) -> Headers:
    return {**bitbucket(body, secret, now), "X-Hub-Signature": f"sha1={hexdigest(secret, body, 'sha1')}"}


def gitea(body: bytes, secret: str, now: datetime) -> Headers:
    """https://docs.gitea.com/usage/repository/webhooks"""
    return {
        **JSON,
        "X-Gitea-Event": "push",
        "X-Gitea-Delivery": "f6266f16-1bf3-46a5-9ea4-602e06ead473",
        "X-Gitea-Signature": hexdigest(secret, body),
    }


def gitea_sha512(body: bytes, secret: str, now: datetime) -> Headers:
    return {**gitea(body, secret, now), "X-Gitea-Signature": hexdigest(secret, body, "sha512")}


def bearer(body: bytes, secret: str, now: datetime) -> Headers:
    """RFC 6750, 2.1"""
    return {**JSON, "Authorization": f"Bearer {secret}"}


def basic(body: bytes, secret: str, now: datetime) -> Headers:
    """RFC 7617, 2"""
    return {**JSON, "Authorization": f"Basic {base64.b64encode(f'ada:{secret}'.encode()).decode()}"}


def grafana(body: bytes, secret: str, now: datetime) -> Headers:
    """Grafana's documentation of its webhook notifier, "HMAC signature"."""
    return {**JSON, "X-Grafana-Alerting-Signature": hexdigest(secret, body)}


def grafana_sha1(body: bytes, secret: str, now: datetime) -> Headers:
    return {**JSON, "X-Grafana-Alerting-Signature": hexdigest(secret, body, "sha1")}


def grafana_timed(body: bytes, secret: str, now: datetime) -> Headers:
    stamp = str(int(now.timestamp()))
    return {**JSON, "X-Time": stamp, "X-Grafana-Alerting-Signature": hexdigest(secret, f"{stamp}:".encode() + body)}


def sentry(body: bytes, secret: str, now: datetime) -> Headers:
    """https://docs.sentry.io/organization/integrations/integration-platform/webhooks/"""
    return {
        **JSON,
        "Request-ID": "4d2d7a0d6a4f4a0c8fd2a8ad7f4bb1d3",
        "Sentry-Hook-Resource": "issue",
        "Sentry-Hook-Timestamp": str(int(now.timestamp())),
        "Sentry-Hook-Signature": hexdigest(secret, body),
    }


def sentry_sha512(body: bytes, secret: str, now: datetime) -> Headers:
    return {**sentry(body, secret, now), "Sentry-Hook-Signature": hexdigest(secret, body, "sha512")}


def pagerduty(body: bytes, secret: str, now: datetime) -> Headers:
    """https://developer.pagerduty.com/docs/verifying-signatures: one for each secret while one is changed"""
    return {**JSON, "X-PagerDuty-Signature": f"v1={hexdigest('one of before', body)},v1={hexdigest(secret, body)}"}


def pagerduty_v2(body: bytes, secret: str, now: datetime) -> Headers:
    return {**JSON, "X-PagerDuty-Signature": f"v1={hexdigest(secret, body, 'sha1')},v2={hexdigest(secret, body)}"}


def stripe(body: bytes, secret: str, now: datetime) -> Headers:
    """Signed by Stripe's library."""
    stamp = int(now.timestamp())
    content = f"{stamp}.{body.decode(errors='replace')}"
    signature = stripe_library.WebhookSignature._compute_signature(content, secret)
    return {**JSON, "Stripe-Signature": f"t={stamp},v1={signature},v0={hexdigest('for tests', body)}"}


def stripe_v0(body: bytes, secret: str, now: datetime) -> Headers:
    return {
        **JSON,
        "Stripe-Signature": stripe(body, secret, now)["Stripe-Signature"].split(",v0")[0].replace("v1", "v0"),
    }


class _At(Clock):
    def __init__(self, now: datetime) -> None:
        self._now = now

    def now(self) -> float:
        return self._now.timestamp()


def slack(body: bytes, secret: str, now: datetime) -> Headers:
    """Signed by Slack's library."""
    stamp = str(int(now.timestamp()))
    verifier = SignatureVerifier(secret, _At(now))
    signature = verifier.generate_signature(timestamp=stamp, body=body.decode(errors="replace"))
    return {**JSON, "X-Slack-Request-Timestamp": stamp, "X-Slack-Signature": str(signature)}


def slack_sha512(body: bytes, secret: str, now: datetime) -> Headers:
    stamp = str(int(now.timestamp()))
    signature = hexdigest(secret, f"v0:{stamp}:".encode() + body, "sha512")
    return {**slack(body, secret, now), "X-Slack-Signature": f"v0={signature}"}


def sns(body: bytes, secret: str, now: datetime) -> Headers:
    return {"Content-Type": "text/plain; charset=UTF-8", "X-Amz-Sns-Message-Type": "Notification"}


def nothing(body: bytes, secret: str, now: datetime) -> Headers:
    return JSON


STANDARD_SECRETS: Final = ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_plJ3nmyCDGBKInavdOK15jsl")
ORDER: Final = {"type": "order.paid", "id": "${{ body.order_id }}", "subject": "${{ body.order_id }}"}

VENDORS: Final = {
    "alertmanager": Vendor(
        EXAMPLES / "alertmanager-firing.json",
        prove=bearer,
        proof="Authorization",
        wrong=basic,
        signed=False,
        type="alertmanager.alert",
        subject='{}:{alertname="HighErrorRate", service="checkout"}',
    ),
    "alertmanager by basic": Vendor(
        EXAMPLES / "alertmanager-firing.json",
        prove=basic,
        proof="Authorization",
        wrong=bearer,
        signed=False,
        type="alertmanager.alert",
        subject='{}:{alertname="HighErrorRate", service="checkout"}',
        settings={"user": "ada"},
    ),
    "basic": Vendor(
        EXAMPLES / "order-paid.json",
        prove=basic,
        proof="Authorization",
        wrong=bearer,
        signed=False,
        type="order.paid",
        subject="A-1001",
        id="A-1001",
        settings={**ORDER, "user": "ada"},
    ),
    "bitbucket": Vendor(
        PAYLOADS / "bitbucket" / "repo-push.json",
        prove=bitbucket,
        proof="X-Hub-Signature",
        wrong=bitbucket_sha1,
        type="bitbucket.repo.push",
        subject="team_name/repo_name",
    ),
    "dockerhub": Vendor(
        PAYLOADS / "dockerhub" / "push.json",
        prove=nothing,
        signed=False,
        type="dockerhub.push",
        subject="svendowideit/testhook",
        secret="s3cret-in-the-address",
        query="?token={}",
    ),
    "gitea": Vendor(
        PAYLOADS / "gitea" / "push.json",
        prove=gitea,
        proof="X-Gitea-Signature",
        wrong=gitea_sha512,
        type="gitea.push",
        subject="gitea/webhooks",
        id="f6266f16-1bf3-46a5-9ea4-602e06ead473",
    ),
    "github": Vendor(
        EXAMPLES / "github-workflow-run-failed.json",
        prove=github,
        proof="X-Hub-Signature-256",
        wrong=github_sha1,
        type="github.workflow_run",
        subject="octo-org/octo-repo",
        id="72d3162e-cc78-11e3-81ab-4c9367dc0958",
    ),
    "gitlab": Vendor(
        PAYLOADS / "gitlab" / "pipeline-failed.json",
        prove=gitlab_token,
        proof="X-Gitlab-Token",
        signed=False,
        type="gitlab.pipeline",
        subject="gitlab-org/gitlab-test",
        id="f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
    ),
    "gitlab by signing token": Vendor(
        PAYLOADS / "gitlab" / "pipeline-failed.json",
        prove=gitlab_signed,
        proof="Webhook-Signature",
        wrong=standard_sha512,
        timed=True,
        type="gitlab.pipeline",
        subject="gitlab-org/gitlab-test",
        id="f5e5f430-f57b-4e6e-9fac-d9128cd7232f",
        secret=STANDARD_SECRETS[0],
        other_secret=STANDARD_SECRETS[1],
    ),
    "grafana": Vendor(
        PAYLOADS / "grafana" / "alerts-firing.json",
        prove=grafana,
        proof="X-Grafana-Alerting-Signature",
        wrong=grafana_sha1,
        type="grafana.alert",
        subject="{}:{}",
    ),
    "grafana with a time": Vendor(
        PAYLOADS / "grafana" / "alerts-firing.json",
        prove=grafana_timed,
        proof="X-Grafana-Alerting-Signature",
        wrong=grafana,
        timed=True,
        type="grafana.alert",
        subject="{}:{}",
        settings={"timestamp_header": "X-Time"},
    ),
    "grafana by basic": Vendor(
        PAYLOADS / "grafana" / "alerts-firing.json",
        prove=basic,
        proof="Authorization",
        wrong=grafana,
        signed=False,
        type="grafana.alert",
        subject="{}:{}",
        settings={"by": "basic", "user": "ada"},
    ),
    "hmac": Vendor(
        EXAMPLES / "order-paid.json",
        prove=timed_hmac,
        proof="X-Shop-Signature",
        wrong=timed_hmac_sha256,
        timed=True,
        type="order.paid",
        subject="A-1001",
        id="order-A-1001",
        settings={
            "header": "X-Shop-Signature",
            "algorithm": "sha512",
            "prefix": "v1=",
            "signs": "{x-shop-time}.{body}",
            "timestamp_header": "X-Shop-Time",
            "type": "order.${{ headers['x-shop-event'] }}",
            "id": "order-${{ body.order_id }}",
            "subject": "${{ body.order_id }}",
        },
    ),
    "pagerduty": Vendor(
        PAYLOADS / "pagerduty" / "incident-priority-updated.json",
        prove=pagerduty,
        proof="X-PagerDuty-Signature",
        wrong=pagerduty_v2,
        type="pagerduty.incident.priority_updated",
        subject="PGR0VU2",
        id="01BWDWL3NYY7LUFPZCC28QUCMK",
    ),
    "sentry": Vendor(
        PAYLOADS / "sentry" / "issue-created.json",
        prove=sentry,
        proof="Sentry-Hook-Signature",
        wrong=sentry_sha512,
        type="sentry.issue.created",
        subject="IPE-1",
        id="4d2d7a0d6a4f4a0c8fd2a8ad7f4bb1d3",
    ),
    "slack": Vendor(
        PAYLOADS / "slack" / "app-mention.json",
        prove=slack,
        proof="X-Slack-Signature",
        wrong=slack_sha512,
        timed=True,
        type="slack.app_mention",
        subject="C123ABC456",
        id="Ev123ABC456",
    ),
    "sns": Vendor(
        PAYLOADS / "sns" / "notification-v2.json",
        prove=sns,
        timed=True,
        type="sns.notification",
        subject="publish-and-verify-62674b1d-4295-426b-88e7-5fb75652a04e",
        id="17dea24b-55c2-540b-8362-f916557af765",
        secret="",
        settings={"topics": [f"{amazon.TOPIC}-62674b1d-4295-426b-88e7-5fb75652a04e"]},
        dress=amazon.signed,
    ),
    "standard": Vendor(
        PAYLOADS / "standard" / "contact-created.json",
        prove=standard,
        proof="Webhook-Signature",
        wrong=standard_sha512,
        timed=True,
        type="crm.contact.created",
        subject="1f81eb52-5198-4599-803e-771906343485",
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        secret=STANDARD_SECRETS[0],
        other_secret=STANDARD_SECRETS[1],
        settings={"prefix": "crm.", "subject": "id"},
    ),
    "standard by svix": Vendor(
        PAYLOADS / "standard" / "contact-created.json",
        prove=svix,
        proof="Svix-Signature",
        timed=True,
        type="contact.created",
        subject="",
        id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        secret=STANDARD_SECRETS[0],
        other_secret=STANDARD_SECRETS[1],
    ),
    "stripe": Vendor(
        PAYLOADS / "stripe" / "invoice-paid.json",
        prove=stripe,
        proof="Stripe-Signature",
        wrong=stripe_v0,
        timed=True,
        type="stripe.invoice.paid",
        subject="in_1MtHbELkdIwHu7ixl4OzzPMv",
        id="evt_1MqqbKLt4dXK03v5qaIbiNCC",
    ),
    "token": Vendor(
        EXAMPLES / "order-paid.json",
        prove=lambda body, secret, now: {**JSON, "X-Shop-Pass": secret},
        proof="X-Shop-Pass",
        wrong=bearer,
        signed=False,
        type="order.paid",
        subject="A-1001",
        id="A-1001",
        settings={**ORDER, "header": "X-Shop-Pass"},
    ),
    "token as bearer": Vendor(
        EXAMPLES / "order-paid.json",
        prove=bearer,
        proof="Authorization",
        wrong=basic,
        signed=False,
        type="order.paid",
        subject="A-1001",
        id="A-1001",
        settings=ORDER,
    ),
    "token in the address": Vendor(
        EXAMPLES / "order-paid.json",
        prove=nothing,
        signed=False,
        type="order.paid",
        subject="A-1001",
        id="A-1001",
        secret="s3cret-in-the-address",
        settings={**ORDER, "parameter": "key"},
        query="?key={}",
    ),
}


def adapter_of(case: str) -> str:
    return case.partition(" ")[0]
