"""The cases that a loop is tried in, and the model, data and optimizer that it is handed in each."""
