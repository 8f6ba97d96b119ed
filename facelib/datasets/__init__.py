"""Data sets: where photos come from, who is held out, and crops for training: `python -m facelib.datasets --help`.

face_list          FaceList, a list of face photos, and the CSV file beside prepared crops that it is read from
sources            loaders: photos inside pip packages, prepared sets under FACELIB_DATA, your own folder
splits             who is held out from what; the only module that knows
crops              photos to prepared crops, one way for all data sets
crop_tables        tables of crops: which faces go into one, and unfinished runs that go on
published_files    folders and archives of a data set's authors, read in place
celeba, lfw        CelebA, open_val and open_test, LFW: downloads and converters
landmark_sets      converters of landmark labels: CelebA, HELEN, LFPW, AFW, 300-W, WFLW, MTFL
group_sets         converters of faces by origin, sex and age: UTKFace, FairFace, All-Age-Faces, SCUT-FBP5500
aligned_faces      lists of photos to aligned faces, cached in files
training_crops     faces with a margin around them, for augmentation
label_conventions  how much landmark label sets disagree, and labels moved to one convention
cleaning           find identities with two IDs, and photos that do not show their person
"""
