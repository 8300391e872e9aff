import pytest
import torch
from torch import nn

from bsst_plugin.optim_wrapper import BFloat16OptimWrapper


@pytest.mark.parametrize('accumulated', [1, 2])
def test_computes_in_bfloat16_and_learns_in_float32(accumulated):
    torch.manual_seed(0)
    model, x = nn.Linear(8, 1), torch.randn(64, 8)
    target = x @ torch.linspace(-1, 1, 8)
    optimizer = torch.optim.SGD(model.parameters(), 0.2)
    wrapper = BFloat16OptimWrapper(optimizer=optimizer, accumulative_counts=accumulated)
    for _ in range(60):
        with wrapper.optim_context(model):
            y = model(x)
        assert y.dtype == torch.bfloat16 and model.weight.dtype == torch.float32
        wrapper.update_params((y.float()[:, 0] - target).square().mean())
    assert model(x).dtype == torch.float32
    torch.testing.assert_close(model.weight[0], torch.linspace(-1, 1, 8), rtol=0, atol=0.02)
