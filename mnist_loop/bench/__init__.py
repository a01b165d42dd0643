"""How fast the training is: workloads, clock, memory, machine, ruler, and the hooks of pytest-benchmark."""
