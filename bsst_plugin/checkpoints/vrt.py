"""Names of the released VRT checkpoints and what they are called here."""

import re
from collections.abc import Callable

from torch import Tensor

# Applied in order to the names of the released checkpoints.
RENAMES: list[tuple[str, str | Callable[[re.Match], str]]] = [
    # Rebuilt from the settings.
    (r'.*\.(relative_position_index|position_bias)$', ''),
    # Places.
    (r'^stage8\.0\.1\.', 'widen.0.'),
    (r'^stage8\.0\.2\.', 'widen.1.'),
    (r'^stage8\.(\d+)\.', lambda match: f'refine.{int(match[1]) - 1}.'),
    (r'^stage(\d)\.', lambda match: f'stages.{int(match[1]) - 1}.'),
    (r'^conv_first\.', 'embed.'),
    (r'^conv_after_body\.', 'project.'),
    (r'^conv_last\.', 'to_frame.'),
    # Inside a stage.
    (r'\.reshape\.1\.', '.norm.'),
    (r'\.reshape\.2\.', '.linear.'),
    (r'\.residual_group1\.', '.mutual_group.'),
    (r'\.linear1\.', '.mutual_group.linear.'),
    (r'\.residual_group2\.', '.self_group.'),
    (r'\.linear2\.', '.self_group.linear.'),
    (r'\.residual_group\.', '.'),
    (r'\.pa_fuse\.', '.warping.fuse.'),
    (r'\.pa_deform\.conv_offset\.', '.warping.deform.conv_offset.'),
    (r'\.pa_deform\.', '.warping.deform.conv.'),
    # Inside a block.
    (r'\.attn\.qkv_self\.', '.qkv.'),
    (r'\.attn\.qkv_mut\.', '.mutual_qkv.'),
    (r'\.attn\.relative_position_bias_table$', '.relative_position_bias'),
    (r'\.attn\.', '.'),
    (r'\.fc11\.', '.gate.'),
    (r'\.fc12\.', '.value.'),
    (r'\.fc2\.', '.out.'),
    # Convolutions and activations alternate; MMagic's flow estimator counts pairs of them.
    (
        r'^(spynet\.basic_module\.\d\.basic_module)\.(\d)\.',
        lambda match: f'{match[1]}.{int(match[2]) // 2}.conv.',
    ),
]


def rename(name: str) -> str:
    """Name in :class:`VRT` of a tensor of a released checkpoint, '' for one that is not needed."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def convert_vrt(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of :class:`VRT` from the tensors of a released checkpoint.

    Args:
        params: Tensors under the authors' names.

    Returns:
        The tensors that the network uses, under the names they have here.
    """
    out = {}
    for name, tensor in params.items():
        new = rename(name)
        if new:
            # Single frames are convolved in 3-D there; a kernel of depth 1 is a 2-D one.
            out[new] = tensor.squeeze(2) if tensor.dim() == 5 else tensor
    return out
