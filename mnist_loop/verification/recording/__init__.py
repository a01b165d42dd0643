"""The recording of one run of a loop, and its replay in float64."""
