"""Figures of the memory checks: which are drawn, and that they show the numbers."""

import io

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from zrag_core.model.checks import memory_plots as module
from zrag_core.model.checks.memory_plots import memory_plots

NLL = np.ones((6, 6)) * 2 - np.eye(6)
SWEEPS = {"alpha_sweep": (0.0, 1.0, 2.0), "coverage_by_documents": (50, 100, 200), "coverage_by_slots": (1, 2, 4)}


def rows(*names):
    table = [(name, None, 0.9, 0.85 if name == "oracle_routing_coverage" else None) for name in names]
    table = [
        (name, parameter, 0.2 + 0.2 * place, None) if name in SWEEPS else row
        for name, row in zip(names, table, strict=True)
        for place, parameter in enumerate(SWEEPS.get(name, (None,)))
    ]
    return pd.DataFrame(table, columns=["check_name", "parameter", "value", "threshold"])


@pytest.fixture
def drawn(monkeypatch):
    """Texts of the figures in the order they were drawn."""
    seen = []
    draw = module.png

    def remember(figure):
        axes = figure.axes[0]
        texts = [*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels(), axes.title, axes._left_title]
        seen.append([text.get_text() for text in texts])
        return draw(figure)

    monkeypatch.setattr(module, "png", remember)
    return seen


def test_what_was_measured_is_drawn(drawn):
    names = ["oracle_routing_coverage", "free_coverage", "z_shuffle_coverage", *SWEEPS]
    plots = memory_plots(rows(*names), NLL, "separated")
    assert list(plots) == [
        "confusion.png",
        "slots_read.png",
        "alpha_sweep.png",
        "coverage_by_documents.png",
        "coverage_by_slots.png",
    ]
    for content in plots.values():
        image = imread(io.BytesIO(content))
        assert image.shape[0] > 100
        assert image[..., :3].std() > 0.01, "blank"
    confusion, read, alpha, documents, slots = drawn
    assert "Own slots explain 6 of 6 documents best  (separated)" in confusion
    assert {"90%  (threshold 85%)", "90%", "gold document"} <= set(read)
    for texts, ticks in ((documents, {"50", "100", "200"}), (slots, {"1", "2", "4"}), (alpha, {"0", "1", "2"})):
        assert ticks | {"20%", "40%", "60%"} <= set(texts)


def test_what_was_not_measured_is_left_out():
    nothing = pd.DataFrame({"check_name": [], "parameter": [], "value": [], "threshold": []})
    assert memory_plots(nothing, np.zeros((1, 1)), "joint") == {}
    assert list(memory_plots(rows("document_top1"), NLL, "joint")) == ["confusion.png"]
