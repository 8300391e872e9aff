"""Several networks on one dataset under one protocol: how well, how large, how fast."""

import gc
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from mmagic.models import BaseEditModel
from mmagic.registry import MODELS
from mmagic.structures import DataSample
from mmengine.config import Config
from mmengine.runner.amp import autocast
from torch import Tensor
from torch.utils.data import DataLoader

from bsst_plugin.analysis.complexity import count_gmac_per_frame, count_parameters
from bsst_plugin.checkpoints.check import check_fits, read_state_dict
from bsst_plugin.datasets import VideoWindows
from bsst_plugin.errors import UserError
from bsst_plugin.evaluation import DeblurringMetrics
from bsst_plugin.evaluation.gaussian_ssim import as_clip, to_8bit
from bsst_plugin.inference.memory import measure_peak, release_memory, resident_memory

#: Side of the frames whose multiply-accumulates are counted, as in the paper.
COUNTED_SIZE = 256
#: A frame by video and index.
Frame = tuple[str, int]


@dataclass(frozen=True)
class Run:
    """A network to compare.

    Attributes:
        name: What tables and pictures call it.
        method: What the paper calls it.
        config: File of its config.
        cfg: Its config.
        checkpoint: File of its weights, None for those it starts from.
    """

    name: str
    method: str
    config: Path
    cfg: Config
    checkpoint: Path | None

    def build(self) -> BaseEditModel:
        """The editing model with its weights, in eval mode.

        Raises:
            UserError: It cannot be built, or the checkpoint is none or of another network.
        """
        try:
            model = MODELS.build(self.cfg.model)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = (str(error).strip().splitlines() or ['unknown'])[0]
            raise UserError(f'{self.config}: its model cannot be built ({reason})') from error
        if self.checkpoint is not None:
            check_fits(self.checkpoint, model)
            model.load_state_dict(read_state_dict(self.checkpoint), strict=False)
        return model.eval()


@dataclass
class Measured:
    """What was measured of a network.

    Attributes:
        parameters: Their number, without a frozen flow estimator.
        gmac: GMAC of a frame, without a frozen flow estimator.
        counted_size: Height and width of the frames that they were counted on.
        seconds: Time of a frame, the median over the windows, everything included.
        memory: Bytes that memory rose by in the first window.
        scores: Metrics by name, see ``DeblurringMetrics``.
        frames: For each chosen frame blurry, output and sharp, ``(h, w, 3)`` uint8 RGB.
    """

    parameters: int
    gmac: float = 0.0
    counted_size: tuple[int, int] = (0, 0)
    seconds: float = 0.0
    memory: int = 0
    scores: dict[str, float] = field(default_factory=dict)
    frames: dict[Frame, tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=dict)


def measure_run(
    run: Run, windows: DataLoader, chosen: Iterable[Frame] = (), fp16: bool = False
) -> Measured:
    """Evaluate a network and measure what it costs.

    Args:
        run: The network.
        windows: Batches of one window each, of the dataset ``VideoWindows``.
        chosen: Frames to keep.
        fp16: Whether to use autocast, as ``fp16`` of MMEngine's test loop.

    Returns:
        The measurements, on the GPU if there is one.

    Raises:
        UserError: See :meth:`Run.build`; or the dataset is another one.
    """
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    model = run.build().to(device)
    metrics = DeblurringMetrics()
    metrics.prepare(model, windows)
    measured = Measured(count_parameters(model.generator))
    seconds = []
    for index, batch in enumerate(windows):
        clip: Tensor = batch['inputs'][0]
        samples: list[DataSample] = []

        @torch.no_grad()
        @autocast(enabled=fp16)
        def predict(batch: dict = batch, samples: list[DataSample] = samples) -> None:
            samples.extend(model.test_step(batch))
            if device.type == 'cuda':
                torch.cuda.synchronize()

        if index == 0:
            centre = _centre(clip).to(device)
            measured.gmac = count_gmac_per_frame(model.generator, centre)
            measured.counted_size = (centre.shape[-2], centre.shape[-1])
            base = _memory_held(device)
            start = time.perf_counter()
            measured.memory = measure_peak(predict, device, base)
        else:
            start = time.perf_counter()
            predict()
        seconds.append((time.perf_counter() - start) / len(clip))
        metrics.process(None, [sample.to_dict() for sample in samples])
        for sample in samples:
            _keep(sample, chosen, measured.frames)
    measured.seconds = statistics.median(seconds)
    measured.scores = metrics.evaluate()
    return measured


def _memory_held(device: torch.device) -> int:
    """Bytes that are in use, what was freed given back first."""
    gc.collect()
    release_memory()
    return torch.cuda.memory_allocated(device) if device.type == 'cuda' else resident_memory()


def _centre(clip: Tensor) -> Tensor:
    """The centre of a clip ``(t, 3, h, w)`` in [0, 255] as ``(1, t, 3, h', w')`` in [0, 1]."""
    top, left = (max(0, (side - COUNTED_SIZE) // 2) for side in clip.shape[-2:])
    centre = clip[..., top : top + COUNTED_SIZE, left : left + COUNTED_SIZE]
    return centre[None].float() / 255


def _keep(
    sample: DataSample,
    chosen: Iterable[Frame],
    frames: dict[Frame, tuple[np.ndarray, np.ndarray, np.ndarray]],
) -> None:
    """Add the chosen frames that are scored in a window."""
    clips = (sample.input, sample.output.pred_img, sample.gt_img)
    for video, number in chosen:
        index = number - sample.first_frame
        if sample.video == video and index in sample.scored_frames:
            # MMagic hands out BGR, whatever the network sees.
            blurry, output, sharp = (to_8bit(as_clip(clip)[index])[..., ::-1] for clip in clips)
            frames[video, number] = (blurry, output, sharp)


def choose_frames(dataset: VideoWindows, count: int) -> list[Frame]:
    """The blurriest scored frame in each of ``count`` windows spread over a dataset.

    Args:
        dataset: The dataset.
        count: How many, fewer if there are fewer videos.

    Returns:
        The frames.
    """
    by_video: dict[str, int] = {}
    for index in range(len(dataset)):
        by_video.setdefault(dataset.get_data_info(index)['video'], index)
    first = list(by_video.values())
    spread = {first[int((part + 0.5) * len(first) / count)] for part in range(count)}
    chosen = []
    for index in sorted(spread):
        sample = dataset[index]
        blurry, sharp = sample['inputs'].float(), sample['data_samples'].gt_img.float()
        info = sample['data_samples']
        errors = (blurry - sharp).square().mean((1, 2, 3))
        worst = max(info.scored_frames, key=lambda frame: float(errors[frame]))
        chosen.append((info.video, info.first_frame + worst))
    return chosen
