"""`manage.py export`: the configuration as YAML that `apply` loads."""

from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from project.kinds import in_clear, in_order, placeholders
from project.registry import UnknownName

HIDDEN: Final = "# A secret is not written here: set its variable before you apply this (or export --with-secrets)."


class Command(BaseCommand):
    help = (
        "Write the configuration as YAML documents that `apply` loads. A secret that is stored in clear is written as "
        "a reference to a variable, because files are passed on; ${NAME} is written as it is."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "kinds", nargs="*", metavar="KIND", help="only these kinds, such as Subscription; default: all"
        )
        parser.add_argument("--with-secrets", action="store_true", help="write secrets in clear")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            wanted = in_order(options["kinds"] or None)
        except UnknownName as error:
            raise CommandError(str(error)) from error
        texts = []
        for kind in wanted:
            for row in kind.rows():
                clear = kind.text(row, in_clear)
                text = clear if options["with_secrets"] else kind.text(row, placeholders(kind.name, row.name))
                if text != clear:
                    text = f"{HIDDEN}\n{text}"
                texts.append(text)
        self.stdout.write("---\n".join(filter(None, texts)), ending="")
