"""The laws that every correct loop obeys: a module for each subject of the catalogue, a function for each law."""
