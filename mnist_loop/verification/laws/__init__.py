"""What every correct loop obeys: one module a subject, one function a law. Torch is loaded with the laws, not here."""
