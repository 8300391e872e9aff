"""Parameters and multiply-accumulates of any network, counted on what really runs."""

from collections import defaultdict
from collections.abc import Callable

import torch
import torch.nn.functional as F
from mmcv.ops import ModulatedDeformConv2d
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from bsst_plugin.models.flow import FlowEstimator

DEFORM = torch.ops.torchvision.deform_conv2d
CPU_ATTENTION = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
SAMPLE = torch.ops.aten.grid_sampler_2d
#: The counter's name for the sum of all modules.
ALL = 'Global'


def count_parameters(network: nn.Module) -> int:
    """Number of parameters, those of frozen flow estimators left out as in the paper."""
    frozen = {id(p) for part in _flow_estimators(network).values() for p in part.parameters()}
    return sum(p.numel() for p in network.parameters() if id(p) not in frozen)


def count_macs(network: nn.Module, *inputs: object) -> dict[str, dict[str, float]]:
    """Multiply-accumulates of one call, by module.

    Counted are products: of convolutions, linear layers and attention. Inputs and network may be
    on the device ``meta``, where shapes go through the network and numbers do not.

    Args:
        network: The network; mmcv's deformable convolutions count too.
        *inputs: What it is called with.

    Returns:
        For each module, named as ``Type_of_network.name.of.module``, and for ``ALL``: GMAC of the
        product inside deformable convolutions (``deform``), where it is an operator of its own,
        and of everything else (``rest``).
    """
    on_meta = any(isinstance(x, Tensor) and x.is_meta for x in inputs)
    mapping = {
        DEFORM: _deform_flops,
        CPU_ATTENTION: _attention_flops,
        SAMPLE: lambda *_, **__: 0,  # has no product; said here, it is not taken apart
    }
    counter = FlopCounterMode(display=False, custom_mapping=mapping)
    counts: dict[str, dict[str, float]] = defaultdict(dict)

    def add(module: str, kind: str, macs: float) -> None:
        counts[module][kind] = counts[module].get(kind, 0.0) + macs / 1e9

    def add_mmcv(name: str, layer: ModulatedDeformConv2d, out: Tensor) -> None:
        parts = [type(network).__name__, *filter(None, name.split('.'))]
        for module in (ALL, *('.'.join(parts[:end]) for end in range(1, len(parts) + 1))):
            add(module, 'deform', out.numel() * layer.weight[0].numel())

    # An extension's operator, which torch's counter does not see.
    hooks = [
        layer.register_forward_hook(lambda layer, _, out, name=name: add_mmcv(name, layer, out))
        for name, layer in network.named_modules()
        if isinstance(layer, ModulatedDeformConv2d)
    ]
    try:
        with torch.no_grad(), _SampleShapes(on_meta), counter:
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    for module, operators in counter.get_flop_counts().items():
        for operator, flops in operators.items():
            add(module, 'deform' if operator == DEFORM else 'rest', flops / 2)
    return counts


def count_gmac_per_frame(network: nn.Module, clip: Tensor) -> float:
    """GMAC that a network takes for a frame of a clip, frozen flow estimators left out.

    Args:
        network: Maps ``(1, t, 3, h, w)`` to the same shape.
        clip: ``(1, t, 3, h, w)`` in [0, 1]; what depends on the content is counted for this one.
    """
    counts = count_macs(network, clip)
    root = type(network).__name__
    flow = (counts.get(f'{root}.{name}', {}) for name in _flow_estimators(network))
    total = sum(counts[ALL].values()) - sum(sum(kinds.values()) for kinds in flow)
    return total / clip.shape[1]


def _flow_estimators(network: nn.Module) -> dict[str, FlowEstimator]:
    return {n: part for n, part in network.named_modules() if isinstance(part, FlowEstimator)}


class _SampleShapes(TorchFunctionMode):
    """Sampling, which has no product to count, gives its shape: torch takes it apart slowly.

    Args:
        active: Whether it does; with numbers in the tensors they are needed.
    """

    def __init__(self, active: bool) -> None:
        super().__init__()
        self.active = active

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
    ) -> object:
        if not self.active or func is not F.grid_sample:
            return func(*args, **(kwargs or {}))
        x, grid = args[:2]
        return x.new_empty((*x.shape[:2], *grid.shape[1:3]))


def _deform_flops(
    x_shape: tuple, weight_shape: tuple, *_: object, out_shape: tuple, **__: object
) -> int:
    """Twice the multiply-accumulates of the product of samples and weights."""
    n, c_out, h, w = out_shape
    return 2 * n * h * w * c_out * weight_shape[1] * weight_shape[2] * weight_shape[3]


def _attention_flops(
    query_shape: tuple, key_shape: tuple, value_shape: tuple, *_: object, **__: object
) -> int:
    return sdpa_flop_count(query_shape, key_shape, value_shape)
