"""What embeddings mean: calibration, galleries, clustering, quality."""
