import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.models.correction import agreement


def products(parts):
    """Correlations of all pairs of candidates ``(c, k, h, w)``, then the log of their powers."""
    k = parts.shape[1]
    power = [max(np.mean(parts[:, i] ** 2), 1e-9) for i in range(k)]
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    correlations = [
        np.mean(parts[:, i] * parts[:, j]) / np.sqrt(power[i] * power[j]) for i, j in pairs
    ]
    return [*correlations, *((np.log(p) + 9) / 4 for p in power)]


@settings(max_examples=20, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 4), st.integers(1, 5), st.integers(1, 9), st.integers(0, 9)
)
def test_agreement_equals_a_loop(b, k, rows, columns, seed):
    torch.manual_seed(seed)
    candidates = 0.1 * torch.randn(b, 3, k, 16 * rows, 16 * columns)
    out = agreement(candidates)
    each = k * (k + 1) // 2
    assert out.shape == (b, 4 * each, rows, columns)
    for index, row, column in np.ndindex(b, rows, columns):
        parts = candidates[index].double().numpy()
        expected = []
        for reach in (0, 1, 3):  # squares on each side
            top, left = 16 * max(0, row - reach), 16 * max(0, column - reach)
            bottom, right = 16 * (row + reach + 1), 16 * (column + reach + 1)
            expected += products(parts[..., top:bottom, left:right])
        expected += products(parts)
        found = out[index, :, row, column].numpy()
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_agreement_of_a_part_of_a_square():
    # What is missing counts as zero; correlations do not change by that.
    candidates = 0.1 * torch.randn(1, 3, 4, 10, 18)
    out = agreement(candidates)
    assert out.shape == (1, 40, 1, 2)
    expected = products(candidates[0, ..., :16].double().numpy())[:6]
    np.testing.assert_allclose(out[0, :6, 0, 0].numpy(), expected, atol=1e-4)
    candidates[:, :, 1] = candidates[:, :, 0]
    candidates[:, :, 2] = 0
    same, none = agreement(candidates)[0, :2, 0, 0].tolist()
    assert same == pytest.approx(1, abs=1e-4)
    assert none == pytest.approx(0, abs=1e-4)
