"""Configuration in, weights out: `python -m facelib.training CONFIG [--set KEY=VALUE ...]`

run              configuration -> weights, manifest entry, history: what the command does
configuration    reading, checking, hashing and writing configurations
embedder_config  hyperparameters of an embedding network, with their defaults
landmark_config  hyperparameters of the hourglass, with their defaults
embedder         configuration -> embedding network
embedder_model   its network and loss
embedder_task    its objective, for the loop
landmarks        configuration -> stacked hourglass
loop             the training loop of both networks
run_config       the settings of the loop
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
heatmap_tensors  heatmaps as differentiable tensors, for these losses
export           .onnx files of trained weights, for inference
compare          equal short runs that differ in one setting
"""
