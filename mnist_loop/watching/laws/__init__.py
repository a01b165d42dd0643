"""The laws that a watched training is held to, by the subjects of the catalogue. They read the log alone."""
