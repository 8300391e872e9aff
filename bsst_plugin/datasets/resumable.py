"""Training data that is the same after an interruption as without one.

MMEngine's loop reads all earlier batches again before it goes on, which takes as long as loading
them took, and the random crops of a loader with workers depend on which worker makes them. Here a
sample's place in training decides on its random choices, so that earlier ones can be left out.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
from typing import Any

import numpy as np
import torch
from mmagic.datasets import BasicFramesDataset
from mmagic.registry import DATA_SAMPLERS, DATASETS
from mmengine.dataset import InfiniteSampler


@DATA_SAMPLERS.register_module()
class ResumableSampler(InfiniteSampler):
    """MMEngine's ``InfiniteSampler``, able to start later; for datasets with :func:`seeded_sample`.

    Takes the same arguments. ``start`` is the number of samples of this process to leave out.
    """

    start = 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield each sample's index and its place among the samples of all processes."""
        places = count(self.rank, self.world_size)
        yield from islice(zip(self._indices_of_rank(), places, strict=False), self.start, None)


@DATASETS.register_module()
class SeededFramesDataset(BasicFramesDataset):
    """MMagic's ``BasicFramesDataset`` whose random transforms follow from a sample's place.

    Args:
        *args: Of ``BasicFramesDataset``.
        seed: Another seed makes other choices.
        **kwargs: Of ``BasicFramesDataset``.
    """

    def __init__(self, *args: Any, seed: int = 0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seed = seed

    def __getitem__(self, item: int | tuple[int, int]) -> Any:
        """The sample of an index, or of an index and a place in training."""
        with seeded_sample(self.seed, item) as index:
            return super().__getitem__(index)


@contextmanager
def seeded_sample(seed: int, item: int | tuple[int, int]) -> Iterator[int]:
    """Seed Python, NumPy and torch (CPU) for a sample; afterwards they are as they were.

    Args:
        seed: Of the dataset.
        item: What the sampler yields: an index and its place in training, or an index alone,
            whose random choices are then always the same.

    Yields:
        The index.
    """
    index, place = item if isinstance(item, tuple) else (item, item)
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence((seed, place)).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1:3])
    torch.random.default_generator.manual_seed(int(words[3]))
    try:
        yield index
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
