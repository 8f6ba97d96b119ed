"""The pipeline over millions of photos: Ray Data carries the work, LanceDB the vectors (extra `archive`).

source   where the photos come from
worker   what an actor does with a batch of them
table    faces and photos: written, mended, searched, removed
people   faces sorted by person through their neighbours, and named
"""
