"""What the numbers say: ratios with intervals, verdicts, warm-up, the line through times by batch size. No torch."""
