"""Databases that are not Carillon's own (settings.WORKFLOW_DATABASES), through SQLAlchemy Core.

SQLAlchemy is an optional package. What can be told without it stands here and in `statement`; the rest is reached
through `effects`, which `workflows.actions.sql` imports when a step needs it.
"""


class ForeignError(Exception):
    """Something could not be done in another database. `permanent`: trying again would not help."""

    def __init__(self, message: str, *, permanent: bool) -> None:
        super().__init__(message)
        self.permanent = permanent


class Refused(ForeignError):
    """What a step asks for cannot be; `problems` are (path, message) pairs, like those of `Action.check`."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in problems), permanent=True)
        self.problems = problems
