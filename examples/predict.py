"""Answers for slices, and where the hottest pixel of each lies: python examples/predict.py SCAN..."""

import sys

import numpy as np

from braincam import Predictor

for answer in Predictor().predict(sys.argv[1:]):
    print(answer.path, answer.status, answer.label, answer.confidence, answer.reason or "", sep="\t")
    if answer.cam is not None:  # evidence per pixel, over the whole slice
        height, width = answer.cam.shape
        row, column = np.unravel_index(answer.cam.argmax(), answer.cam.shape)
        print(f"  hottest at {column / width:.0%} from the left, {row / height:.0%} from the top")
