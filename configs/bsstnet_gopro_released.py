# The released network to the letter: for the authors' checkpoint, see
# tools/model_converters/released.py. It differs from the paper in the blur map, the window
# selection and the FlowRefiner.
_base_ = [
    '_base_/default_runtime.py',
    '_base_/models/bsstnet.py',
    '_base_/datasets/gopro.py',
    '_base_/schedules/600k.py',
]

model = dict(
    generator=dict(
        blur_map=dict(reduction='mean'),
        flow_refiner=dict(type='FlowRefiner'),
        neck=dict(selection=dict(_delete_=True, type='ReleasedSelection', theta=0.3)),
    )
)

# The learning rate of the FlowRefiner: 0.1 for GoPro, 0.25 for DVD.
optim_wrapper = dict(paramwise_cfg=dict(custom_keys={'flow_refiner': dict(lr_mult=0.1)}))
