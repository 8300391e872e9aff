"""Names of the authors' released checkpoint and what they are called here."""

import re

from torch import Tensor

# Applied in order to the names of the released checkpoint; the first rules place a block, the
# last ones rename what is inside a block.
RENAMES = [
    # Never reach the output, or are rebuilt from the settings.
    (
        r'^(feat_extract|decoder_level1_2|decoder_level2(_[12])?|conv_before_upsampler'
        r'|conv_before_input|upsampler|conv_last)\..*',
        '',
    ),
    (r'.*\.(relative_position_index|valid_ind_rolled|mask_padding)$', ''),
    # Encoder.
    (r'^concat\.', 'encoder.to_full.'),
    (r'^down01\.0', 'encoder.to_half.0'),
    (r'^encoder_level1\.', 'encoder.to_half.2.'),
    (r'^encoder_level1_1\.', 'encoder.to_half.3.'),
    (r'^down12\.0', 'encoder.to_quarter.0'),
    (r'^encoder_level2\.', 'encoder.to_quarter.2.'),
    (r'^encoder_level2_1\.', 'encoder.to_quarter.3.'),
    # Flow refiner.
    (r'^blur_motion_refine\.encoder1\.(\d)\.conv1\.0', r'flow_refiner.encode.\1.0'),
    (r'^blur_motion_refine\.encoder1\.(\d)\.conv2\.0', r'flow_refiner.encode.\1.2'),
    (r'^blur_motion_refine\.mid_dilation\.', 'flow_refiner.dilated.'),
    (
        r'^blur_motion_refine\.feat_prop_module\.deform_align\.(\w+?)_\.',
        r'flow_refiner.\1_prop.deform.',
    ),
    (
        r'^blur_motion_refine\.feat_prop_module\.backbone\.(\w+?)_\.',
        r'flow_refiner.\1_prop.update.',
    ),
    (r'^blur_motion_refine\.feat_prop_module\.fusion\.', 'flow_refiner.fuse.'),
    (r'^blur_motion_refine\.decoder1\.0', 'flow_refiner.decode.0'),
    (r'^blur_motion_refine\.decoder1\.2\.conv', 'flow_refiner.decode.2'),
    (r'^blur_motion_refine\.upsample\.0', 'flow_refiner.decode.4'),
    (r'^blur_motion_refine\.upsample\.2\.conv', 'flow_refiner.decode.6'),
    (r'^blur_motion_refine\.', 'flow_refiner.'),
    # Backbone: the branches in the order in which they run.
    (r'^backbone\.', 'backbone.bodies.'),
    (r'^deform_align\.', 'backbone.alignments.'),
    (r'^(backbone\.alignments\.\w+)\.', r'\1.deform.'),
    (r'\.deform\.(weight|bias)$', r'.deform.conv.\1'),
    (r'(?<=bodies\.|nments\.)backward_1', '0'),
    (r'(?<=bodies\.|nments\.)forward_1', '1'),
    (r'(?<=bodies\.|nments\.)backward_2', '2'),
    (r'(?<=bodies\.|nments\.)forward_2', '3'),
    # Fusion.
    (r'^reconstruction\.main\.1\.', 'fusion.conv.'),
    (r'^reconstruction\.main\.3\.', 'fusion.norm_in.'),
    (r'^reconstruction\.main\.7\.', 'fusion.norm_out.'),
    (r'^reconstruction\.main\.5\.(\d)\.residual_group\.', r'fusion.groups.\1.'),
    (r'^reconstruction\.main\.5\.', 'fusion.groups.'),
    (r'relative_position_bias_table', 'relative_position_bias'),
    (r'\.attn\.qkv_self\.', '.qkv.'),
    (r'\.attn\.', '.'),
    (r'^(fusion\..*)\.fc1\.', r'\1.0.'),
    (r'^(fusion\..*)\.fc2\.', r'\1.2.'),
    (r'(?<=\.)relative_position_bias$', 'relative_position_bias'),
    # Neck.
    (r'^softsplit\.embedding', 'neck.soft_split'),
    (r'^softcomp\.embedding', 'neck.soft_composition'),
    (r'^softcomp\.bias_conv', 'neck.compose_conv'),
    (r'^transsqattn\.transformer\.', 'neck.blocks.'),
    (r'\.pool_layer\.', '.pool.'),
    (r'\.mlp\.fc1\.0\.', '.ffn.fc1.'),
    (r'\.mlp\.fc2\.1\.', '.ffn.fc2.'),
    (r'^cabattn\.0\.', 'neck.merge.'),
    (r'^cabattn\.1\.', 'neck.refine.'),
    # Decoder.
    (r'^up21\.up\.1', 'decoder.up_half'),
    (r'^skip_attn1\.', 'decoder.skip_half.'),
    (r'^decoder_level1\.', 'decoder.shift_blocks.0.'),
    (r'^decoder_level1_1\.', 'decoder.shift_blocks.1.'),
    (r'\.encoder_level1\.0\.', '.merge.0.'),
    (r'\.encoder_level1\.1\.', '.refine.0.'),
    (r'\.encoder_level1_(\d)\.0\.', r'.merge.\1.'),
    (r'\.encoder_level1_(\d)\.1\.', r'.refine.\1.'),
    (r'^upsample0\.upsample_conv', 'decoder.up_full'),
    (r'^conv_hr0\.', 'decoder.conv_full.'),
    (r'^skip_conv\.', 'decoder.skip_full.'),
    (r'^out_conv\.', 'decoder.refine_full.'),
    (r'^last_conv\.', 'decoder.to_frame.'),
    # Inside CAB1 and CAB2.
    (r'\.conv1\.weight$', '.extra.weight'),
    (r'\.body\.1\.conv_2\.', '.mix.'),
    (r'\.body\.3\.conv_1\.', '.mix_large.'),
    (r'\.body\.3\.conv_2\.', '.mix_small.'),
    (r'\.body\.6\.conv_du\.', '.attention.weights.'),
    (r'\.body\.4\.weight', '.expand_gate.weight'),
    (r'\.body\.7\.weight', '.project.weight'),
    (r'\.CA\.conv_du\.', '.attention.weights.'),
]
# In both kinds of attention block a layer is called body.0: in CAB it keeps that name.
GATED = re.compile(
    r'^(backbone\.bodies\.\d\.2|neck\.(merge|refine)|decoder\.shift_blocks\.\d\.\w+\.\d)'
    r'\.body\.0\.'
)


def rename(name: str) -> str:
    """Name in :class:`BSSTNet` of a tensor of the released checkpoint, '' for an unused one."""
    for pattern, replacement in RENAMES:
        name = re.sub(pattern, replacement, name)
    return GATED.sub(r'\1.expand.', name)


def convert_released(params: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of :class:`BSSTNet` from the tensors of the released checkpoint.

    Args:
        params: Tensors under the authors' names.

    Returns:
        The tensors that the network uses, under the names they have here.
    """
    out = {}
    for name, tensor in params.items():
        new = rename(name)
        if new:
            # The released code convolves single frames in 3-D; a kernel of depth 1 is a 2-D one.
            out[new] = tensor.squeeze(2) if new == 'fusion.conv.weight' else tensor
    return out
