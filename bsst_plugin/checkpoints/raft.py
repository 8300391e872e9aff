"""The three spellings of RAFT's weights: torchvision's, the official one and mmflow's."""

import re
from collections.abc import Mapping

from torch import Tensor

# From mmflow's names to the official ones.
MMFLOW = [
    (r'^encoder\.', 'fnet.'),
    (r'^context\.', 'cnet.'),
    (r'\.res_layer(\d)\.', r'.layer\1.'),
    (r'\.bn(\d)\.', r'.norm\1.'),
    (r'^decoder\.encoder\.corr_net\.0\.conv\.', 'update_block.encoder.convc1.'),
    (r'^decoder\.encoder\.corr_net\.1\.conv\.', 'update_block.encoder.convc2.'),
    (r'^decoder\.encoder\.flow_net\.0\.conv\.', 'update_block.encoder.convf1.'),
    (r'^decoder\.encoder\.flow_net\.1\.conv\.', 'update_block.encoder.convf2.'),
    (r'^decoder\.encoder\.out_net\.0\.conv\.', 'update_block.encoder.conv.'),
    (r'^decoder\.gru\.conv_([zrq])\.0\.conv\.', r'update_block.gru.conv\g<1>1.'),
    (r'^decoder\.gru\.conv_([zrq])\.1\.conv\.', r'update_block.gru.conv\g<1>2.'),
    (r'^decoder\.flow_pred\.layers\.0\.conv\.', 'update_block.flow_head.conv1.'),
    (r'^decoder\.flow_pred\.predict_layer\.', 'update_block.flow_head.conv2.'),
    (r'^decoder\.mask_pred\.layers\.0\.conv\.', 'update_block.mask.0.'),
    (r'^decoder\.mask_pred\.predict_layer\.', 'update_block.mask.2.'),
]
# From the official names to torchvision's.
OFFICIAL = [
    (r'^module\.', ''),
    (r'^fnet\.', 'feature_encoder.'),
    (r'^cnet\.', 'context_encoder.'),
    (r'\.norm3\.', '.downsample.1.'),  # one layer under two names
    (r'^(\w+_encoder)\.conv1\.', r'\1.convnormrelu.0.'),
    (r'^(\w+_encoder)\.norm1\.', r'\1.convnormrelu.1.'),
    (r'^(\w+_encoder)\.conv2\.', r'\1.conv.'),
    (r'(\.layer\d\.\d)\.conv(\d)\.', r'\1.convnormrelu\2.0.'),
    (r'(\.layer\d\.\d)\.norm(\d)\.', r'\1.convnormrelu\2.1.'),
    (r'^update_block\.encoder\.convc(\d)\.', r'update_block.motion_encoder.convcorr\1.0.'),
    (r'^update_block\.encoder\.convf(\d)\.', r'update_block.motion_encoder.convflow\1.0.'),
    (r'^update_block\.encoder\.conv\.', 'update_block.motion_encoder.conv.0.'),
    (r'^update_block\.gru\.conv([zrq])(\d)\.', r'update_block.recurrent_block.convgru\2.conv\1.'),
    (r'^update_block\.mask\.0\.', 'mask_predictor.convrelu.0.'),
    (r'^update_block\.mask\.2\.', 'mask_predictor.conv.'),
]


def to_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """RAFT's weights under the names of torchvision's ``raft_large``.

    Args:
        state: Weights in any of the three spellings, the official one with or without the
            prefix ``module.``.

    Returns:
        The same tensors, renamed; names that belong to none of the spellings stay.
    """
    is_mmflow = any(name.startswith('decoder.gru.') for name in state)
    rules = MMFLOW + OFFICIAL if is_mmflow else OFFICIAL
    out = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor
    return out
