"""Pictures of responses, channel sums, learning curves and shower shapes.

Every function returns a `matplotlib.figure.Figure` made without pyplot: no window, no global state, any machine.
"""

from zdckeras.plots.histograms import (
    channel_histograms,
    histogram_counts,
    histogram_edges,
    model_colours,
    shape_histograms,
)
from zdckeras.plots.pictures import (
    learning_curves,
    probability_curves,
    property_traversal,
    response_gallery,
    save_figure,
    sparsity_curves,
    write_energy_pictures,
    write_pictures,
)

__all__ = [
    "channel_histograms", "histogram_counts", "histogram_edges", "learning_curves", "model_colours",
    "probability_curves", "property_traversal", "response_gallery", "save_figure", "shape_histograms",
    "sparsity_curves", "write_energy_pictures", "write_pictures"]
