"""Errors of the user. They are printed as one sentence, without a traceback, and give exit code 2."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message says what was wrong, what was expected and what to do."""


class DataError(UserError):
    """A data set that is missing, truncated, corrupt, mislabelled or unreadable."""


class CheckpointError(UserError):
    """A checkpoint that cannot be written, read, or continued with these settings."""


class WriteRefused(UserError, PermissionError):
    """A loop under verification writes where it may not. Code that expects that of a disk sees a PermissionError."""
