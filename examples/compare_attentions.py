"""Is a network with both attentions better than one without, on the same patients, or is that noise?

    python examples/compare_attentions.py DATA OUT [PATIENTS.csv] [key=value ...]

Without data: `braincam phantom --out phantom` makes some, then DATA is phantom/data and PATIENTS phantom/patients.csv.
"""

import sys
from pathlib import Path

import braincam

data, out, *rest = sys.argv[1:]
patients = rest.pop(0) if rest and "=" not in rest[0] else None

# one split for both: no patient, and no copy of a slice, stands on two sides of it
split = Path(out) / "split.csv"
split.parent.mkdir(parents=True, exist_ok=True)
braincam.split(data, split, patients=patients, folds=5)

for attention in ("none", "both"):
    trained = braincam.train(
        data,
        Path(out) / attention,
        patients=patients,
        split=split,
        fold=0,
        config="demo",
        overrides=[*rest, f"attention={attention}"],
    )
    interval = trained.metrics["ci95"]["accuracy"]
    print(f"{attention:>5}: accuracy {trained.metrics['accuracy']:.3f}, 95 % interval {interval}")

both = braincam.evaluate(data, Path(out) / "both", patients=patients, split=split, fold=0, against=Path(out) / "none")
difference = both.metrics["against"]
interval = difference["ci95"]["accuracy"]
print(f"both minus none, on the same slices: {difference['accuracy']:+.3f}, 95 % interval {interval}")
print("better" if interval and interval[0] > 0 else "the interval does not exclude zero: this may be noise")
