"""A Django project that is not Carillon, and sends it events by clients/django."""
