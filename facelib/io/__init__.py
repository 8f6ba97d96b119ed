"""Reading and finding photos, downloads, atomic files, locks of folders and records of results."""
