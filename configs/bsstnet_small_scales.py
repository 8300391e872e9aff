# What the last part of the small model learns from, see tools/fit_small.py --scales: larger clips,
# as there is little to see in those of 128 pixels when they are a quarter as large, more of them of
# video, of such in which little moves, and of a camera in a hand that shakes.
_base_ = 'bsstnet_small.py'

train_dataloader = dict(
    dataset=dict(
        settings=dict(size=256),
        capture=dict(video_share=0.8, tripod_share=0.4, shake_share=0.5, least_motion=0.5),
    )
)
# One of its videos is of 240 lines.
val_dataloader = dict(dataset=dict(settings=dict(size=192)))
test_dataloader = val_dataloader
