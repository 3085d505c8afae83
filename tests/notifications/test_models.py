"""What the notifications' models refuse, whoever saves them."""

from typing import Any

import pytest
from django.core.exceptions import ValidationError

from notifications.models import Channel, Recipient, Template

pytestmark = pytest.mark.django_db


def refused(row: Any) -> dict[str, list[str]]:
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    return dict(caught.value.message_dict)


def test_fallbacks_may_not_lead_back() -> None:
    a = Channel.objects.create(name="a", type="email")
    b = Channel.objects.create(name="b", type="email", fallback=a)
    a.fallback = Channel.objects.create(name="c", type="email", fallback=b)
    assert refused(a) == {"fallback": ["goes in a circle: a → c → b → a"]}
    b.fallback = b
    assert refused(b) == {"fallback": ["goes in a circle: b → b"]}


def test_a_type_has_one_default() -> None:
    Channel.objects.create(name="a", type="email", default=True)
    assert refused(Channel(name="b", type="email", default=True)) == {
        "default": ["The default channel of the type email is a; there is one."]
    }
    Channel(name="chat", type="slack", settings={"url": "https://example.com/"}, default=True).full_clean()


def test_each_wrong_setting_is_named_and_no_secret_repeated() -> None:
    row = Channel(name="a", type="webhook", settings={"url": "http://10.0.0.1/", "secret": "whsec_short", "tries": 3})
    told = refused(row)["settings"]
    assert [message.split(":")[0] for message in told] == ["secret", "tries"]
    assert "whsec_short" not in str(told)
    row.settings = {"url": "http://10.0.0.1/"}
    assert refused(row)["settings"][0].startswith("url: 10.0.0.1 is a private")


def test_a_setting_whose_variable_is_not_set_here_is_not_judged() -> None:
    Channel(name="a", type="slack", settings={"url": "${NOT_SET_ANYWHERE}"}).full_clean()
    row = Channel(name="a", type="webhook", settings={"url": "${NOT_SET_ANYWHERE}", "tries": 3})
    assert refused(row) == {"settings": ["tries: unknown setting; known: url, secret, previous_secret, headers"]}


def test_a_setting_whose_variable_is_set_is_judged_by_its_value(settings: Any) -> None:
    settings.ENVIRONMENT = {"HOOK": "ftp://example.com/"}
    assert refused(Channel(name="a", type="slack", settings={"url": "${HOOK}"})) == {
        "settings": ["url: a URL must begin with http:// or https://"]
    }


@pytest.mark.parametrize(
    "quiet", [{"from": "22:00"}, {"from": "22:00", "to": "22:00"}, {"from": 22, "to": "07:00"}, []]
)
def test_quiet_hours_have_two_ends(quiet: Any) -> None:
    assert list(refused(Recipient(name="ada", quiet_hours=quiet or ["x"]))) == ["quiet_hours"]


@pytest.mark.parametrize("language", ["en", "pt-BR", "zh-Hant-TW"])
def test_languages_are_tags(language: str) -> None:
    Recipient(name="ada", language=language).full_clean()
    Template(name="t", text="x", languages={language: {"text": "y"}}).full_clean()
