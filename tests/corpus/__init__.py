"""Public training scripts, run as they are under ``mnist-loop check``: what it says of each, and what it costs."""
