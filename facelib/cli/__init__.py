"""The command line: one application, `facelib`, with a sub-command for each task."""
