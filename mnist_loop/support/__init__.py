"""What every room needs and that knows none of them: files, progress, devices, command-line values."""
