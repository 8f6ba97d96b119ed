"""Wing: weights in, results out. `python -m facelib.evaluation [NAME ...]` writes models/results.

landmarks      the hourglass on four sets of labelled faces
recognition    embedders on people whom no training has seen
closed_set     embedders on held-out photos of people whom the training has seen
detectors      faces found and made up
crowds         faces found on large photos, and what that costs
speed          how quick the networks are on this machine
documents      the figures in README.md and models/README.md, made from models/results
"""

from facelib.settings import share_cores

share_cores()
