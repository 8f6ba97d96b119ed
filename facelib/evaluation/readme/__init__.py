"""Tables of the pages and of the report."""
