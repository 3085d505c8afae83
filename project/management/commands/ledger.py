"""`manage.py ledger`: whether the sums hold."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.ledger import Balance, audit_everything, balances, sums


class Command(BaseCommand):
    help = "Show the ledger as the clock last audited it; exit 1 if a sum does not balance."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--all", action="store_true", help="audit every row there is, now; reads all of the tables")

    def handle(self, *args: Any, **options: Any) -> None:
        found = [audit_everything(each) for each in sums().values()] if options["all"] else balances()
        for balance in found:
            self.tell(balance)
        wrong = sum(bool(balance.difference or balance.unaudited) for balance in found)
        if wrong:
            raise CommandError(
                f"{wrong} of {len(found)} sums are wrong; see docs/how-to/when-the-ledger-does-not-balance.md."
            )

    def tell(self, balance: Balance) -> None:
        well = not (balance.difference or balance.unaudited)
        mark = self.style.SUCCESS("ok   ") if well else self.style.ERROR("WRONG")
        sides = f"{balance.left} {'≠' if balance.difference else '='} {balance.right}"
        self.stdout.write(f"{mark}  {balance.sum.name:<12}{sides if balance.as_of else 'not audited yet'}")
        if not well:
            self.stdout.write(f"       {balance.sum.says}")
        if balance.unaudited:
            self.stdout.write(f"       {balance.unaudited}")
        for fault in balance.faults:
            self.stdout.write(f"       {balance.sum.opened._meta.verbose_name} {fault.uid}: {fault.what}")
        if balance.difference > len(balance.faults):
            self.stdout.write(f"       … {balance.difference} in all")
