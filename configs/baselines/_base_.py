# What the methods that BSSTNet is compared with share: data, protocol and hooks are its own. Their
# authors publish numbers in float32.
_base_ = ['../_base_/default_runtime.py', '../_base_/datasets/gopro.py']

model = dict(
    type='VideoDeblurrer',
    data_preprocessor=dict(type='DataPreprocessor', mean=[0.0] * 3, std=[255.0] * 3),
    test_cfg=dict(tile=256, overlap=64, merge='cut', num_frames=48),
)
auto_scale_lr = dict(enable=False, base_batch_size=8)
val_cfg = dict(fp16=False)
test_cfg = dict(fp16=False)
