"""Watch a training as it is, and name its bugs: script -> hooks -> log -> laws -> verdict."""
