"""From a loop, or the text that says where one is, to a contract: what it takes, offers and declares."""
