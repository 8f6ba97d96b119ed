"""Reading and finding photos, downloads, atomic files and records of results."""
