"""The cases in which a loop is tried, and the model, data and optimizer that it is handed in each."""
