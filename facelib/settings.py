"""Settings that are known before anything heavy is imported."""

DETECTORS = ("auto", "insightface", "retinaface")

# For the variable GOMP_SPINCOUNT, which the OpenMP library of PyTorch reads when it is loaded: how long a thread
# that waits for the others keeps its core busy. By default it is so long that on cores which other jobs use too,
# threads that wait take the time from those that work: beside two other jobs on two cores, a training step took
# 7.4 s; with 3,000 it takes 0.36 s, and on idle cores as long as before. With 0 the tests take twice as long there.
SPIN_COUNT = "3000"
