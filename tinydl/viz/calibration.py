"""Reliability diagrams: do probabilities come true?"""

from __future__ import annotations

from typing import Any

from matplotlib.figure import FigureBase

from ..metrics import calibration_error, reliability_curve
from .canvas import canvas
from .experiment import COLORS


def reliability_diagram(
    prediction: Any,
    target: Any,
    *,
    of: str | None = None,
    bins: int = 15,
    strategy: str = "uniform",
    sample_weight: Any = None,
    title: str = "",
    figure: FigureBase | None = None,
) -> Any:
    """How often probabilities came true, bin by bin, above how many samples each bin has.

    On the diagonal they are calibrated; points below it are too sure. The expected calibration error of the
    same bins stands in the legend.

    Args:
        prediction, target, of, bins, strategy, sample_weight: as in `tinydl.metrics.reliability_curve`, which
            raises the errors.
        title: above.
        figure: a figure or subfigure to draw into; None: a new one.
    """
    settings = {"of": of, "bins": bins, "strategy": strategy, "sample_weight": sample_weight}
    curve = reliability_curve(prediction, target, **settings)
    error = calibration_error(prediction, target, **settings)
    drawn = canvas(figure, 4.2, 5.4)
    drawn.suptitle(title)
    above, below = drawn.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    above.plot([0, 1], [0, 1], color=COLORS[0], linestyle=":", linewidth=1)
    above.vlines(curve.probability, curve.probability, curve.frequency, color=COLORS[2], alpha=0.4)
    above.plot(curve.probability, curve.frequency, color=COLORS[1], marker="o", label=f"ECE {error:.3f}")
    above.set(ylabel="came true", ylim=(-0.02, 1.02))
    above.legend(frameon=False, loc="upper left")
    below.bar(curve.probability, curve.samples, width=0.8 / bins, color=COLORS[0], alpha=0.5)
    below.set(xlabel="probability", ylabel="samples", xlim=(-0.02, 1.02))
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    return drawn
