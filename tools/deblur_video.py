"""Deblur a video or a folder of frames.

python tools/deblur_video.py holiday.mp4
python tools/deblur_video.py frames/ sharp/ --checkpoint BSST_gopro.pth --max-memory 4GB
"""

from bsst_plugin.commands.deblur_video import main

if __name__ == '__main__':
    main()
