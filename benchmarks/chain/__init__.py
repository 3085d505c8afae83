"""The baseline: the reference job as a team writes it by hand, with a DRF view, the ORM and a chain of Celery tasks."""
