"""The time of a data-parallel step, T(b, k) = t0 + b / (k r) + exchange(k), and the networks it is computed for.

Here b is the batch of all k workers. The workers add their gradients up in a ring: 2 (k - 1) messages, one after
another, each with a k-th of the gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

BACKWARD = 2 / 3  # of the arithmetic: two of three products of a layer; DDP can exchange gradients meanwhile


@dataclass(frozen=True)
class Network:
    """The links between workers.

    Attributes:
        latency: seconds of a small message.
        bandwidth: bytes a second, of one worker in one direction.
    """

    name: str
    latency: float
    bandwidth: float

    def exchange(self, workers: int, size: float) -> float:
        """Return the seconds in which a ring of workers adds up ``size`` bytes."""
        return 2 * (workers - 1) * (self.latency + size / workers / self.bandwidth)


# Latencies of a message between two programs and bandwidths of the data sheets: assumed, not measured.
NETWORKS = (
    Network("10 Gbit/s Ethernet", 30e-6, 1.25e9),
    Network("100 Gbit/s Ethernet", 10e-6, 12.5e9),
    Network("NVLink", 3e-6, 450e9),
)


@dataclass(frozen=True)
class StepCost:
    """The time of a step.

    Attributes:
        dispatch: t0, seconds of a step of one worker however small its batch.
        rate: r, images per second that a large batch approaches.
        size: bytes of the gradients.
    """

    dispatch: float
    rate: float
    size: float

    def seconds(self, batch: float, workers: int, network: Network, wait: float = 0.0) -> float:
        """Return T(b, k), with an exchange that takes ``wait`` seconds more."""
        exchange = network.exchange(workers, self.size) if workers > 1 else 0.0
        return self.dispatch + batch / workers / self.rate + exchange + wait

    def speedup(self, batch: float, workers: int, network: Network) -> float:
        """Return by how much a step on a batch is faster than with one worker (strong scaling)."""
        return self.seconds(batch, 1, network) / self.seconds(batch, workers, network)

    def efficiency(self, share: float, workers: int, network: Network) -> float:
        """Return which part of their rate alone the workers reach, with a batch of ``share`` images for each."""
        return self.seconds(share, 1, network) / self.seconds(share * workers, workers, network)

    def share_for(self, efficiency: float, workers: int, network: Network) -> float:
        """Return the images for each worker with which this efficiency is reached."""
        least = network.exchange(workers, self.size) * efficiency / (1 - efficiency)
        return max(0.0, self.rate * (least - self.dispatch))

    def share_hidden(self, workers: int, network: Network) -> float:
        """Return the images for each worker whose backward pass lasts as long as the exchange."""
        return self.rate * network.exchange(workers, self.size) / BACKWARD
