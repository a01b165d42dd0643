"""The process in which a loop runs: limited in time, memory and output, and ended with all that it started."""
