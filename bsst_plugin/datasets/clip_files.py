"""Rendered clips in files, with what a small network is given of them.

Rendering a clip and what ``CompactEncoder.evidence`` computes of it take longer than to learn from
it, and the candidates of some thousand clips do not fit in the memory of many machines.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import torch
from mmagic.registry import DATASETS
from mmengine.config import Config
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bsst_plugin.checkpoints.write import save
from bsst_plugin.models.bsstnet import BSSTNet
from bsst_plugin.models.compact import SCALE
from bsst_plugin.models.scale_mixture import smaller_residuals

_P = TypeVar('_P', bound='ClipParts')
_R = TypeVar('_R', bound='Rendered')


class ClipParts:
    """Base of what is kept of a clip, or of a batch of clips: a dataclass of tensors."""

    @classmethod
    def of(cls: type[_P], network: BSSTNet, clips: Rendered) -> _P:
        """Compute it, for a batch, with the parts of the network that are not in training."""
        raise NotImplementedError

    def map(self: _P, change: Callable[[Tensor], Tensor]) -> _P:
        """The same of each part."""
        return type(self)(*map(change, vars(self).values()))


@dataclass(frozen=True)
class Rendered(ClipParts):
    """Frames, and how they move.

    Args:
        blurry: Frames ``(..., t, 3, h, w)``, uint8.
        sharp: Same.
        flows_forward: ``(..., t-1, 2, h/4, w/4)``.
        flows_backward: Same.
    """

    blurry: Tensor
    sharp: Tensor
    flows_forward: Tensor
    flows_backward: Tensor

    @property
    def input(self) -> Tensor:
        """Blurry frames in [0, 1]."""
        return self.blurry.float() / 255

    @property
    def target(self) -> Tensor:
        """Sharp frames in [0, 1]."""
        return self.sharp.float() / 255

    @classmethod
    def of(cls, network: BSSTNet, clips: Rendered) -> Rendered:
        """The clips."""
        return clips

    def frames(self: _R, chosen: list[int]) -> _R:
        """Some frames of a clip, their flows left out."""
        t = len(self.blurry)
        return self.map(lambda part: part[chosen] if len(part) == t else part[:0])

    def crop(self: _R, size: int) -> _R:
        """A random square of ``size`` pixels, a multiple of 4; all of what is smaller."""
        h, w = self.blurry.shape[-2:]
        places = (max(0, side - size) // SCALE + 1 for side in (h, w))
        top, left = (int(torch.randint(count, ())) for count in places)

        def cut(part: Tensor) -> Tensor:
            scale = SCALE * part.shape[-1] // w
            y, x, length = (scale * value for value in (top, left, size // SCALE))
            return part[..., y : y + length, x : x + length]

        return self.map(cut)


@dataclass(frozen=True)
class Clip(Rendered):
    """What encoder and decoder are given, and what they should make of it.

    Args:
        candidates: See ``CompactEncoder.evidence``, float16: by far the most of the memory.
        hints: Same.
        blur_map: ``(..., t, 1, h/4, w/4)``.
    """

    candidates: Tensor
    hints: Tensor
    blur_map: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: BSSTNet, clips: Rendered) -> Clip:
        """Compute what does not change in training, for a batch."""
        frames = clips.input
        forward, backward, blur_map = network.motion(
            frames, (clips.flows_forward, clips.flows_backward)
        )
        found = network.encoder.evidence(frames.flatten(0, 1), forward, backward)
        candidates, hints = (part.unflatten(0, frames.shape[:2]) for part in found)
        return cls(clips.blurry, clips.sharp, forward, backward, candidates.half(), hints, blur_map)


@dataclass(frozen=True)
class ScaleClip(Rendered):
    """What ``ScaleMixture`` and ``MidExposure`` are given, float16, and what to make of it.

    Args:
        residual: What the network adds to the frames, ``(..., t, 3, h, w)``.
        halved: What it adds to those half as large, ``(..., t, 3, h/2, w/2)``.
        quartered: What it adds to those of a quarter, ``(..., t, 3, h/4, w/4)``.
        features: Those of the encoder, ``(..., t, c, h/4, w/4)``.
    """

    residual: Tensor
    halved: Tensor
    quartered: Tensor
    features: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, network: BSSTNet, clips: Rendered) -> ScaleClip:
        """Compute what does not change in training, for a batch."""
        frames = clips.input
        h, w = frames.shape[-2:]
        flows = (clips.flows_forward, clips.flows_backward)
        _, residual, features, _ = network.residual(frames, flows)
        found = (
            residual[..., :h, :w],
            *smaller_residuals(frames, network.residual_alone),
            features[..., : h // SCALE, : w // SCALE],
        )
        parts = (part.half().unflatten(0, frames.shape[:2]) for part in found)
        return cls(*vars(clips).values(), *parts)


class ClipFiles(Dataset, Generic[_P]):
    """The first clips of a dataset, each made once and kept in a file.

    Args:
        folder: Where they are kept.
        network: A network with a ``CompactEncoder``.
        dataset: Config of a ``RenderedClips``.
        count: Number of clips.
        kind: What to keep. Of 8 frames of 128 x 128 a ``Rendered`` takes 1 MB, a
            ``Clip`` 22, a ``ScaleClip`` 3.
    """

    def __init__(
        self, folder: Path, network: BSSTNet, dataset: dict, count: int, kind: type[_P]
    ) -> None:
        self.folder, self.network, self.count, self.kind = folder, network, count, kind
        # Where clips are missing: it decodes videos, here, so that workers share them.
        complete = all(self._path(index).exists() for index in range(count))
        self.clips: Any = None if complete else DATASETS.build(dict(dataset, pipeline=[]))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> _P:
        """A clip whose parts are read when they are used; it is made if there is none yet.

        Raises:
            UserError: The file cannot be written.
        """
        path = self._path(index)
        if not path.exists():
            clip = self._make(index)
            save(path, [part.contiguous() for part in vars(clip).values()])
        parts = torch.load(path, mmap=True, weights_only=True)
        return self.kind(*parts)

    def _path(self, index: int) -> Path:
        return self.folder / f'{index}.pt'

    def _make(self, index: int) -> _P:
        sample = self.clips[index]
        blurry, sharp = (
            torch.from_numpy(np.stack(sample[key])).permute(0, 3, 1, 2) for key in ('img', 'gt')
        )
        flows = self.network.flow_estimator(blurry[None].float() / 255)
        rendered = Rendered(blurry, sharp, *(flow[0] for flow in flows))
        return self.kind.of(self.network, stack([rendered])).map(lambda x: x[0])


def made(files: ClipFiles[_P]) -> list[_P]:
    """All clips; those that are not there yet are made, each core has a worker."""
    cv2.setNumThreads(1)
    loader = DataLoader(files, None, num_workers=os.cpu_count() or 1, collate_fn=_drop)
    for _ in track(loader, f'Rendering clips, {files.folder.name}', len(files)):
        pass
    return [files[index] for index in range(len(files))]


def both_splits(
    folder: Path, network: BSSTNet, cfg: Config, count: int, kind: type[_P]
) -> tuple[list[_P], list[_P]]:
    """The first ``count`` clips of a config's training set and all of its validation set."""
    sets = (
        ('train', cfg.train_dataloader.dataset, count),
        ('val', cfg.val_dataloader.dataset, cfg.val_dataloader.dataset.length),
    )
    training, validation = (
        made(ClipFiles(folder / split, network, dataset, length, kind))
        for split, dataset, length in sets
    )
    return training, validation


def _drop(_: object) -> None:
    """Leave a clip in its file: a worker's process need not send it."""


def stack(clips: Sequence[_P]) -> _P:
    """A batch."""
    parts = zip(*(vars(clip).values() for clip in clips), strict=True)
    return type(clips[0])(*map(torch.stack, parts))
