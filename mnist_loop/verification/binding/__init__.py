"""From a loop, or the text that names one, to a contract: what it takes, offers and declares."""
