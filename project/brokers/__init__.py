"""How each message broker is reached: the settings that a source and a channel on it have in common."""
