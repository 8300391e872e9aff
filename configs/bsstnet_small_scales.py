# What the last part of the small model learns from, see tools/fit_small.py --scales: larger clips,
# as there is little to see in those of 128 pixels when they are a quarter as large, more of them of
# video, and of such in which little moves.
_base_ = 'bsstnet_small.py'

settings = dict(size=256)
train_dataloader = dict(
    dataset=dict(
        settings=settings,
        capture=dict(video_share=0.7, tripod_share=0.4, least_motion=0.5),
    )
)
val_dataloader = dict(dataset=dict(settings=settings))
test_dataloader = val_dataloader
