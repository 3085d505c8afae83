"""Events for Carillon from a Django project, sent if and only if the transaction commits that they were emitted in."""
