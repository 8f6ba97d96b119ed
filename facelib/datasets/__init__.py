"""Where photos come from, and who is held out: `python -m facelib.datasets lfw | celeba | open_set | prepare | clean`

face_list          FaceList, and the table beside prepared crops that it is read from
sources            photos inside pip packages, public sets under FACELIB_DATA, your own folder
splits             who is held out from what: the only module that knows
crops              photos to prepared crops, and the downloads
aligned_faces      lists of photos to aligned faces, cached in files
training_crops     faces with room around them, for augmentation
label_conventions  by how much landmark label sets disagree, and labels moved to one convention
cleaning           people under two keys, photos of somebody else
"""
