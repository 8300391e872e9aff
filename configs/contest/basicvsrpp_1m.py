# BasicVSR++, 0.98 M parameters. Its SPyNet would be 1.4 M more, and untrained: DIS flow instead, as
# BSSTNet has it here.
_base_ = '_base_.py'

model = dict(
    generator=dict(
        type='FlowBasicVSRPlusPlus',
        flow_estimator=dict(type='DISFlow'),
        mid_channels=24,
        num_blocks=3,
    ),
)
