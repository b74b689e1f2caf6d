"""From a trained network to one that decides: temperature, conformal thresholds, outlier score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from braincam.evaluation.calibration import COVERAGE, conformal_thresholds, fit_temperature
from braincam.evaluation.outliers import fit_outliers, rejection_threshold
from braincam.model_file.card import OUTLIER_FEATURES
from braincam.network.classifier import Classifier
from braincam.network.exportable import Deployed
from braincam.network.preprocess import Preprocess
from braincam.training.batches import Pool, unit
from braincam.training.loop import evaluation_batch

FALSE_REFUSALS = 0.01  # share of real validation slices that may be refused as outliers


@torch.inference_mode()
def readings(network: Classifier, preprocess: Preprocess, pool: Pool) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, D) of a pool's slices, on the CPU in float32."""
    logits, features = [], []
    device = next(network.parameters()).device
    for slices in pool.pieces(evaluation_batch(pool.store.shape[-1])):
        inputs = preprocess.standardise(unit(slices.to(device))).contiguous(memory_format=torch.channels_last)
        reading = network.read(inputs)
        logits.append(reading.logits.cpu())
        features.append(reading.features.cpu())
    return torch.cat(logits), torch.cat(features)


def calibrate(
    network: Classifier, preprocess: Preprocess, training: Pool, validation: Pool, groups: Sequence[str] | None = None
) -> tuple[Deployed, dict[str, Any]]:
    """Fit everything that turns logits into decisions: on the validation part, except the outlier score's geometry.

    `groups` names the patient or group of each validation slice (`fit_temperature`). The network comes back within the
    model, on the CPU. Beside it the fields of its card that were fitted.
    """
    logits, features = readings(network, preprocess, validation)
    labels = validation.labels.numpy()
    temperature = fit_temperature(logits.numpy(), labels, groups)
    _, training_features = readings(network, preprocess, training)
    classes = network.config.classes
    centres, whitening = fit_outliers(training_features.numpy(), training.labels.numpy(), classes)
    model = Deployed(
        preprocess, network.cpu(), temperature, torch.from_numpy(centres), torch.from_numpy(whitening)
    ).eval()
    probabilities, outliers = (answer.numpy() for answer in model.judge(logits, features))
    threshold = rejection_threshold(outliers, FALSE_REFUSALS)
    return model, {
        "temperature": temperature,
        "outlier_features": OUTLIER_FEATURES,
        "outlier_threshold": threshold,
        "outlier_false_refusals": float((outliers > threshold).mean()),
        "conformal_thresholds": tuple(float(value) for value in conformal_thresholds(probabilities, labels, COVERAGE)),
    }
