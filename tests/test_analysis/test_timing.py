import time

import pytest
import torch
from torch import nn

from bsst_plugin.analysis.timing import Workload, matrix_product_peak, measure_in_turn


class Sleeps(nn.Module):
    """Waits for some time inside a part, and a little outside."""

    def __init__(self, name, seconds, log):
        super().__init__()
        self.part = nn.Linear(4, 4)
        self.part.register_forward_hook(lambda *_: time.sleep(seconds))
        self.name, self.log = name, log

    def forward(self, x):
        self.log.append((self.name, torch.is_grad_enabled(), self.training))
        time.sleep(0.01)
        return self.part(x)


@pytest.mark.parametrize('train', [False, True])
def test_networks_run_in_turn_and_parts_are_timed(train):
    log, runs = [], []
    x = torch.randn(2, 4)
    workloads = [Workload(Sleeps(*args, log), [x], train=train) for args in (('a', 0.05), ('b', 0))]
    first, second = measure_in_turn(workloads, 2, lambda: runs.append(1))
    assert log == [(name, train, train) for name in 'ab' * 3]
    assert len(runs) == 6
    for slow, fast in zip(first.seconds, second.seconds, strict=True):
        assert slow >= 0.06 and 0.01 <= fast < slow
    assert all(
        0.05 <= part < 0.06 <= run
        for part, run in zip(first.parts['part'], first.seconds, strict=True)
    )
    assert all(p.grad is None for w in workloads for p in w.network.parameters())


def test_memory_of_a_run_is_measured():
    class Allocates(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x):
            return x.expand(100_000_000).clone() * self.weight

    (timing,) = measure_in_turn([Workload(Allocates(), [torch.ones(1)])], 1)
    assert 7e8 < timing.peak < 1.2e9  # two tensors of 400 MB


def test_peak_of_a_matrix_product_is_plausible():
    assert 0.5 < matrix_product_peak(torch.device('cpu'), torch.float32, runs=1) < 1e5
