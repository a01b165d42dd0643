"""Helpers for all other packages: files, progress, devices, values of command-line options."""
