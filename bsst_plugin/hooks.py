"""How training starts: weights of a part, and parts that wait."""

from collections.abc import Sequence
from typing import Any

from mmagic.registry import HOOKS
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn

from bsst_plugin.errors import UserError
from bsst_plugin.models.flow.base import read_or_download


@HOOKS.register_module()
class PretrainedPart(Hook):
    """Start one part of the model from weights of its own.

    They are read when training starts, not when the model is built, and only if it starts afresh:
    a run that resumes, or that has ``load_from``, holds them already.

    Args:
        part: The part, for instance ``generator.spynet``.
        checkpoint: File or address of its weights.
    """

    def __init__(self, part: str, checkpoint: str) -> None:
        self.part, self.checkpoint = part, checkpoint

    def before_train(self, runner: Runner) -> None:
        """Load the weights.

        Args:
            runner: The runner, its own checkpoint loaded.

        Raises:
            UserError: They cannot be had, or are those of another network.
        """
        if runner.iter > 0 or runner.cfg.get('load_from'):
            return
        part = _bare(runner.model).get_submodule(self.part)
        found = part.load_state_dict(read_or_download(self.checkpoint), strict=False)
        # Constants that are buffers are missing in some files.
        missing = set(found.missing_keys) & {name for name, _ in part.named_parameters()}
        if missing or found.unexpected_keys:
            raise UserError(
                f'{self.checkpoint}: not the weights of {self.part}; {len(missing)} of its tensors '
                f'are missing and {len(found.unexpected_keys)} others are there'
            )


@HOOKS.register_module()
class FrozenStart(Hook):
    """Keep some parameters as they are in the first iterations.

    In distributed training the config needs ``find_unused_parameters = True``.

    Args:
        keys: Parameters whose name holds one of these.
        iters: Iterations before they are trained.
    """

    def __init__(self, keys: Sequence[str], iters: int) -> None:
        self.keys, self.iters = tuple(keys), iters

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: object = None) -> None:
        """Freeze the parameters, or free them.

        Args:
            runner: The runner.
            batch_idx: Not used.
            data_batch: Not used.

        Raises:
            UserError: No parameter has such a name.
        """
        parameters = [
            parameter
            for name, parameter in _bare(runner.model).named_parameters()
            if any(key in name for key in self.keys)
        ]
        if not parameters:
            raise UserError(f'FrozenStart: the model has no parameters named {list(self.keys)}')
        for parameter in parameters:
            parameter.requires_grad_(runner.iter >= self.iters)


def _bare(model: Any) -> nn.Module:
    return model.module if is_model_wrapper(model) else model
