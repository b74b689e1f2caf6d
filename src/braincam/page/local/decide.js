// From the graph's numbers to an answer: the rules of braincam's predict.py, word for word.

const rounded = (value, digits) => Math.round(value * 10 ** digits) / 10 ** digits;

/** Why a prediction set that is not exactly the leading class cannot be answered. */
function whyReferred(leading, members, coverage) {
  const named = `${Math.round(100 * coverage)}% prediction set`;
  if (!members.length) return `too uncertain: the ${named} is empty`;
  if (members.includes(leading)) return `too uncertain: the ${named} is ${members.join(" and ")}`;
  return `too uncertain: the most probable class, ${leading}, is not in the ${named} (${members.join(" and ")})`;
}

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
    [status, reason] = ["refer", whyReferred(classes[best], members, card.conformal_coverage)];
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
