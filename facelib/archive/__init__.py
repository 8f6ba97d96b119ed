"""The pipeline over millions of photos, with Ray Data and LanceDB (extra `archive`).

run          one run: photos through workers into the tables
stores       files in object stores
source       the photos of a folder, list, tar, Parquet file or object store, as a Ray Dataset
worker       batches of photos to rows, in processes that Ray starts
schema       columns of the tables
table        the tables: write, repair, search, remove
missing      photos whose files were moved or deleted
people       faces clustered by person, and removed
naming       names of people and of single faces
cohorts      the cohort similarities of faces, which scores need
neighbours   the clustering
search       command: the nearest faces to those of a photo
upgrade      command: compute cohort similarities anew
"""
