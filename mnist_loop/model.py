"""The models: the lesson's MLP, and a small network in which train and eval mode differ."""

from __future__ import annotations

from torch import Tensor, nn


class MLP(nn.Module):
    """The lesson's network: Linear, ReLU, Linear.

    The training loop reshapes each image to ``input_shape``.

    Args:
        input_size: values of one flattened image, 784 for MNIST.
        hidden_size: width of the hidden layer.
        output_size: number of classes.
    """

    def __init__(self, input_size: int = 28 * 28, hidden_size: int = 128, output_size: int = 10) -> None:
        super().__init__()
        self.input_shape = (input_size,)
        self.fc1 = nn.Linear(input_size, hidden_size)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(hidden_size, output_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, input_size) to logits (N, output_size)."""
        return self.fc2(self.relu(self.fc1(images)))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any


class ProbeNet(nn.Module):
    """A small network that computes different things in train and in eval mode.

    Only in train mode does BatchNorm update its running statistics and Dropout draw random numbers. So a loop that sets
    the wrong mode ends in a different state; with a plain MLP it would not.

    Args:
        input_size: values of one flattened image.
        hidden_size: width of the hidden layer.
        output_size: number of classes.
        dropout: share of the hidden values that Dropout sets to zero.
    """

    def __init__(
        self, input_size: int = 28 * 28, hidden_size: int = 16, output_size: int = 10, dropout: float = 0.5
    ) -> None:
        super().__init__()
        self.input_shape = (input_size,)
        self.hidden = nn.Sequential(
            nn.Linear(input_size, hidden_size),
            nn.BatchNorm1d(hidden_size),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden_size, output_size)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (N, input_size) to logits (N, output_size)."""
        return self.head(self.hidden(images))  # type: ignore[no-any-return]  # nn.Module.__call__ is Any
