"""The benchmark suite at work: workloads, clock, memory, machine, ruler, and the hooks of pytest-benchmark."""
