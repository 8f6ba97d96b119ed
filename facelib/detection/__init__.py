"""Face detection: letterbox, tiling, non-maximum suppression, and photos that are not upright."""
