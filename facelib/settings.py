"""Settings that are known before anything heavy is imported."""

DETECTORS = ("auto", "insightface", "retinaface")
