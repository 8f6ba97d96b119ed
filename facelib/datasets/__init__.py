"""Data sets: where photos come from, who is held out, and crops for training: `python -m facelib.datasets --help`.

face_list          FaceList, a list of face photos, and the CSV file beside prepared crops that it is read from
sources            loaders: photos inside pip packages, public sets under FACELIB_DATA, your own folder
splits             who is held out from what; the only module that knows
crops              converters: photos to prepared crops, and the downloads
aligned_faces      lists of photos to aligned faces, cached in files
training_crops     faces with a margin around them, for augmentation
label_conventions  how much landmark label sets disagree, and labels moved to one convention
cleaning           find identities with two IDs, and photos that do not show their person
"""
