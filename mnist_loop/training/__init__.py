"""One run of the lesson, and the checkpoints from which it is resumed."""
