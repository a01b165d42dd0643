"""Ratios with intervals, verdicts, the end of the warm-up, and the fit of step times by batch size. No torch."""
