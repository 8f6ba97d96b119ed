"""How networks are loaded and run."""
