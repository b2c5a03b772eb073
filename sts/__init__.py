"""Identity in, temporary credentials out."""
