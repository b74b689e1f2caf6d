// From the graph's numbers to an answer: the rules of braincam's predict.py, word for word.

const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

/** A prediction as the API documents it. */
export function decide(path, colourful, probabilities, outlierScore, { name, sha256, card }) {
  const { classes } = card;
  const best = classes.reduce((most, _, k) => (probabilities[k] > probabilities[most] ? k : most), 0);
  const members = classes.filter((_, k) => probabilities[k] >= card.conformal_thresholds[k]);
  let [status, reason] = ["ok", null];
  if (colourful) {
    [status, reason] = ["rejected", "the picture is coloured; an MRI slice is grey"];
  } else if (!(outlierScore <= card.outlier_threshold)) {
    const score = `outlier score ${outlierScore.toFixed(2)}, accepted up to ${card.outlier_threshold.toFixed(2)}`;
    [status, reason] = ["rejected", `unlike the training scans: ${score}`];
  } else if (members.length !== 1 || members[0] !== classes[best]) {
    const share = `${Math.round(100 * card.conformal_coverage)}%`;
    const said =
      members.length === 1
        ? `${classes[best]} leads, but only ${members[0]} cannot be ruled out`
        : members.length
          ? `${members.join(" and ")} cannot be ruled out`
          : "no class is likely enough";
    [status, reason] = ["refer", `too uncertain: ${said} at ${share} coverage`];
  }
  return {
    path,
    slice: null,
    status,
    label: status === "rejected" ? null : classes[best],
    probabilities: Object.fromEntries(classes.map((label, k) => [label, rounded(probabilities[k], 6)])),
    prediction_set: members,
    confidence: rounded(probabilities[best], 6),
    outlier_score: rounded(outlierScore, 4),
    reason,
    model: { name, sha256 },
    notice: card.notice,
  };
}

/** The row of a file that could not be read. */
export function failed(path, reason, { name, sha256, card }) {
  return {
    path,
    slice: null,
    status: "error",
    label: null,
    probabilities: null,
    prediction_set: null,
    confidence: null,
    outlier_score: null,
    reason: `${path}: ${reason}`,
    model: { name, sha256 },
    notice: card.notice,
  };
}
