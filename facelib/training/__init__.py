"""Configuration in, weights out: `python -m facelib.training CONFIG [--set KEY=VALUE ...]`

configuration    every setting of a training: a dataclass with defaults, a TOML file names what differs
run              configuration -> weights, manifest entry, history: what the command does
embedder         configuration -> embedding network
landmarks        configuration -> stacked hourglass
loop             the training loop of both networks
ema              exponential moving average of the weights
checkpoints      the file that a run is resumed from
initial_weights  the weights that a training starts from, by their hash
training_set     the photos that an embedder's configuration names
face_batches     those photos as tensors, aligned and augmented on the device
augmentation     blur, noise, JPEG compression, random erasing of whole batches
rng              random numbers that depend on the sample alone
sampling         which photos an epoch shows, in which order
distillation     the embeddings of the teacher network
landmark_data    the hourglass's faces and their augmentation
heatmap_losses   the hourglass's losses
compare          equal short runs that differ in one setting
"""
