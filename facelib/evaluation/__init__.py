"""Evaluation: weights in, results out. `python -m facelib.evaluation [NAME ...]` writes models/results.

verification    embedders on identities not seen in training: open_test, LFW, relatives, robustness
identification  open-set identification, clustering by person, quality
calibration     false and true match rates by score
fairness        error rates by group of people
cohort_choice   how the cohort of score normalisation is chosen
clustering_choice  how the scores from which groups merge are chosen
same_photo      impostor pairs within one photo
closed_set      held-out photos of training identities
landmarks       landmark error of the hourglass
detection       true and false positives of the detectors
speed, timing   time per face and per step on this machine
benchmarks/     other libraries, crowds, archives, the whole pipeline (not installed)
readme/         the tables in README.md, models/README.md and facelib/archive/README.md
report          one page with all figures, of the shipped networks or of one's own
sets            which data sets are here; records that are measured set by set
"""
