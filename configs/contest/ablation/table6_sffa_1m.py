# Table 6: standard flow-guided alignment instead of the blur-aware one.
_base_ = '_base_.py'

model = dict(
    generator=dict(
        backbone=dict(alignment=dict(_delete_=True, type='FlowGuidedAlignment', deform_groups=4))
    )
)
