"""The model file without braincam: python examples/onnx_only.py MODEL.onnx SCAN.png HEATMAP.png

Needs onnxruntime and Pillow (and NumPy, which onnxruntime brings). For 8-bit pictures. Set
ORT_DISABLE_TELEMETRY=1 first: official builds of ONNX Runtime from 1.29 on send usage to their maker otherwise.
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageChops

model, scan, heat_map = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
card = json.loads(session.get_modelmeta().custom_metadata_map["braincam.card"])

picture = Image.open(scan).convert("L")
probabilities, cam, outlier_score = session.run(None, {"image": np.asarray(picture)[None]})

for name, probability in zip(card["classes"], probabilities[0], strict=True):
    print(f"{name:12} {probability:.3f}")
if outlier_score[0] > card["outlier_threshold"]:
    print("refused: unlike the training scans")
possible = [
    name
    for name, probability, threshold in zip(
        card["classes"], probabilities[0], card["conformal_thresholds"], strict=True
    )
    if probability >= threshold
]
print(f"cannot be ruled out at {card['conformal_coverage']:.0%} coverage: {', '.join(possible) or 'none'}")
print(card["notice"])

# evidence for the leading class over the slice: grey where there is none, red where it is most
evidence = cam[0, probabilities[0].argmax()].clip(min=0)
heat = Image.fromarray((evidence / max(evidence.max(), 1e-9) * 255).astype(np.uint8)).resize(picture.size)
dim = ImageChops.subtract(picture, heat)
Image.merge("RGB", (ImageChops.lighter(picture, heat), dim, dim)).save(heat_map)
