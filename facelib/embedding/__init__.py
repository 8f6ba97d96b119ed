"""From an aligned face to its embedding."""
