"""Weights in, results out: `python -m facelib.evaluation [NAME ...]` writes models/results

verification    embedders on identities not seen in training, LFW, relatives, degraded photos
identification  galleries with unknown people, clustering, quality
calibration     false match rates by distance
same_photo      impostors within one photo
closed_set      embedders on held-out photos of training identities
landmarks       the hourglass on labelled faces
detection       true and false positives of the detectors
speed           milliseconds of each step on this machine
benchmarks/     other libraries, crowds, archives (not installed)
readme/         the tables in README.md and models/README.md (not installed)
"""
