"""Photos, files, downloads and records."""
