"""Orders, each with its event, in one transaction."""

from contextlib import suppress
from typing import Any

from carillon_outbox.emit import emit
from django.core.management.base import BaseCommand, CommandParser
from django.db import transaction

from tests.clients.shop.models import Order


class Undone(Exception):
    pass


class Command(BaseCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--times", type=int, default=1)
        parser.add_argument("--type", default="order.paid")
        parser.add_argument("--amount", type=float, default=1.5)
        parser.add_argument("--undone", action="store_true")

    def handle(self, *, name: str, times: int, type: str, amount: float, undone: bool, **options: Any) -> None:
        with suppress(Undone), transaction.atomic():
            for number in range(times):
                order = Order.objects.create(number=f"{name}-{number}")
                data = {"order_id": order.number, "amount": amount if amount >= 0 else None}
                emit(type, data, subject=order.number)
            if undone:
                raise Undone
