"""One run of the lesson: its session, and the checkpoints by which it is resumed."""
