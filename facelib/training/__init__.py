"""Wing: recipe in, weights out. `python -m facelib.training RECIPE [--set KEY=VALUE ...]`

recipes          every setting of a training, checked, in a TOML file
start            the weights that a recipe goes on from, by their hash
loop             epochs, checkpoints, resume: the same for all networks
sampling         which photos an epoch shows, in which order
landmarks        recipe -> stacked hourglass
landmark_data    its faces and their augmentation
heatmap_losses   its losses
embedder         recipe -> embedding network
material         the photos that its recipe names
face_data        their augmentation
run              recipe -> weights, manifest, history: what the command does
compare          a recipe and a list of overrides: equal short runs, one table
"""

from facelib.settings import share_cores

share_cores()
