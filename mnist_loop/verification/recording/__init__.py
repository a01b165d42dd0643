"""What was seen of a loop at work, and the same training replayed from it in float64."""
