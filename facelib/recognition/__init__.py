"""Recognition with embeddings: calibration, face quality, gallery and clustering."""
