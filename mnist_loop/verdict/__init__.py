"""What was found in a training loop, and how it is shown: as text and as JSON. It knows nothing of verification."""
