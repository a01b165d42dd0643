"""Reads stored results and shows them as tables, plots, a page and exports. Imports neither torch nor `bench`."""
