"""Verification: a loop is bound, tried in small cases in a sandbox, recorded, and judged by the laws."""
