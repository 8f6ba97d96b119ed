"""Wing: where photos come from and who may be where.

lists      FaceList, and the table beside prepared crops that it is read from
sources    photos inside pip packages, public sets under FACELIB_DATA, your own folder
splits     every rule about people and photos that are held out: the only place that knows
aligned    lists of photos to aligned faces, kept in files
labels     label sets do not agree on where a landmark is: by how much, and labels moved
cleaning   people under two keys, photos of somebody else
crops      photos to prepared crops, and the downloads

`python -m facelib.datasets lfw | celeba | prepare | clean`
"""

from facelib.settings import share_cores

share_cores()
