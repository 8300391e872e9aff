import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bsst_plugin.errors import UserError
from bsst_plugin.inference import memory
from bsst_plugin.inference.clip_plan import CLIP_LENGTHS, choose_plan, plan_clips
from bsst_plugin.inference.memory import (
    MemoryModel,
    available_memory,
    measure_peak,
    parse_size,
    peak_memory,
    release_memory,
    resident_memory,
)

CPU, CUDA = torch.device('cpu'), torch.device('cuda')
# 900 bytes for each pixel of each frame of a tile, 100 MB for the flow of a megapixel.
MODEL = MemoryModel((10e6, 0.0, 900.0), (5e6, 100.0, 0.0))


@pytest.mark.parametrize(
    ('text', 'size'),
    [('4GB', 4e9), ('1.5 gb', 1.5e9), ('800MB', 8e8), ('2G', 2e9), ('3GiB', 3e9), ('1000', 1000)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize('text', ['', 'much', '-4GB', '0GB', '4XB', 'GB'])
def test_no_sizes(text):
    with pytest.raises(UserError, match='like 4GB'):
        parse_size(text)


def test_peak_is_what_was_allocated():
    def allocate():
        return float(np.ones(30_000_000).sum())  # 240 MB, touched

    release_memory()
    base = resident_memory()
    assert 230e6 < measure_peak(allocate, CPU, base) < 300e6
    # The record is reset: a smaller peak is not hidden by the larger one before.
    assert measure_peak(lambda: np.ones(1_000_000).sum(), CPU, resident_memory()) < 60e6
    assert peak_memory(CPU) > base + 200e6


def test_available_memory_is_at_least_what_is_held():
    assert available_memory(CPU) > resident_memory() > 50e6


@pytest.mark.parametrize(
    'prefix, limit, used, cached',
    [
        ('', 'memory.max', 'memory.current', 'inactive_file'),
        ('memory', 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file'),
    ],
)
def test_what_a_container_may_take(tmp_path, monkeypatch, prefix, limit, used, cached):
    folder = tmp_path / prefix
    folder.mkdir(exist_ok=True)
    (folder / limit).write_text('500000000\n')
    (folder / used).write_text('490000000\n')
    (folder / 'memory.stat').write_text(f'anon 200000000\n{cached} 290000000\n')
    monkeypatch.setattr(memory, 'CGROUP', tmp_path)
    # Files that were read do not count, the system drops them.
    assert available_memory(CPU) - resident_memory() == pytest.approx(300e6, abs=1e6)
    (folder / limit).write_text('max\n')
    assert available_memory(CPU) - resident_memory() > 500e6


MEASURE = """
import torch
import bsst_plugin
from bsst_plugin.inference.memory import measure
from mmagic.registry import MODELS

class Hungry(torch.nn.Module):
    # Holds 400 bytes for each pixel of each frame, and 10 MB.
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, lqs):
        n, t, _, h, w = lqs.shape
        held = torch.ones(100 * t * h * w), torch.ones(2_500_000)
        return lqs + 0 * held[0][0] * held[1][0]

print(measure({network}, torch.device('cpu'), None))
"""


def measure_in_a_new_process(network):
    """In a process that has done much before, what is allocated may come from what was freed."""
    command = [sys.executable, '-W', 'ignore', '-c', MEASURE.replace('{network}', network)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return eval(done.stdout.splitlines()[-1], {'MemoryModel': MemoryModel})


def test_model_of_a_network_with_known_memory():
    model = measure_in_a_new_process('Hungry()')
    expected = 10e6 + 400 * 12 * 320 * 320
    assert 0.8 * expected < model.of_tile(12, 320, 320) < 1.5 * expected
    assert model.of_flow(8, 720, 1280, 10**6) == 0


def test_flow_and_network_of_a_real_one(tiny_generator):
    model = measure_in_a_new_process(f'MODELS.build({tiny_generator()!r}).eval()')
    assert model.of_tile(8, 256, 256) > 1.5 * model.of_tile(4, 256, 256) > 0
    assert model.of_flow(8, 720, 1280, 10**6) >= 0


SIZES = st.tuples(st.integers(1, 4000), st.integers(1, 4000))


@given(limit=st.floats(0.2e9, 30e9), size=SIZES, total=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize('device', [CPU, CUDA])
def test_plan_keeps_within_the_limit(device, limit, size, total):
    def choose():
        return plan_clips(MODEL, int(limit), 10**8, total, size, 6, device, 1920 * 1080)

    try:
        plan = choose()
    except UserError as error:
        assert '--max-memory' in str(error) and f'{size[1]} x {size[0]}' in str(error)
        return
    assert plan.expected <= limit
    assert plan.num_frames == total or 5 <= plan.num_frames < total
    network = MODEL.of_tile(plan.num_frames, *(min(side, plan.tiling.tile) for side in size))
    assert network < limit


def test_plan_uses_what_there_is():
    def choose(limit):
        return plan_clips(MODEL, int(limit), 10**8, 500, (720, 1280), 6, CPU, 1920 * 1080)

    large, small = choose(30e9), choose(0.9e9)
    assert large.num_frames == CLIP_LENGTHS[0] and large.tiling.tile >= 256
    assert small.num_frames * small.tiling.tile < large.num_frames * large.tiling.tile
    assert large.tiling.merge == 'smooth'


def test_flow_is_reduced_where_it_does_not_fit():
    model = MemoryModel((1e6, 0.0, 10.0), (0.0, 0.0, 0.01))  # as RAFT's: square of the pixels
    plan = plan_clips(model, 4 * 10**9, 10**8, 10, (1080, 1920), 6, CPU, 1920 * 1080)
    assert plan.flow_pixels < 1080 * 1920 / 4


def test_short_videos_are_not_measured(monkeypatch):
    monkeypatch.setattr('bsst_plugin.inference.clip_plan.measure', None)
    plan = choose_plan(torch.nn.Linear(1, 1), CPU, None, 4, (100, 200), 6, None)
    assert plan.num_frames == 4 and plan.tiling.tile >= 200
