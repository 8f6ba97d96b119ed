"""Tables of the pages, not part of the installed package."""
