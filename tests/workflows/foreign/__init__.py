"""An app with actions that behave in every way that foreign code does."""
