"""Wing: recipe in, weights out. `python -m facelib.training RECIPE [--set KEY=VALUE ...]`

recipes          every setting of a training, checked, in a TOML file
start            the weights that a recipe goes on from, by their hash
loop             steps, by epochs or by the clock: the same for all networks
checkpoints      the file that a run is resumed from
average          weights averaged over the steps
sampling         which photos an epoch shows, in which order
chance           random numbers that belong to a picture
landmarks        recipe -> stacked hourglass
landmark_data    its faces and their augmentation
heatmap_losses   its losses
embedder         recipe -> embedding network
material         the photos that its recipe names
face_batches     them as tensors on the device, aligned and moved there
spoiling         blur, noise, compression and the like, of whole batches
teaching         what a teacher says of them
run              recipe -> weights, manifest, history: what the command does
compare          a recipe and a list of overrides: equal short runs, one table
"""

from facelib.settings import share_cores

share_cores()
