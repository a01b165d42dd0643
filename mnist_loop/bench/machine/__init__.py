"""The machine that a result comes from: its identity, its software, and its state when it was measured.

The identity is hashed: results with the same hash come from the same kind of machine. The state is recorded and not
hashed. What an operating system, a container or a driver does not tell is None, never an exception. No host name, user
name, path or serial number is recorded.
"""

from mnist_loop.bench.machine.cpus import available_cpus
from mnist_loop.bench.machine.fingerprint import identity, label
from mnist_loop.bench.machine.state import current_state
from mnist_loop.bench.machine.versions import software

__all__ = ["available_cpus", "current_state", "identity", "label", "software"]
