"""What the paper publishes: PSNR and SSIM by method, and which method a config is."""

from mmengine.config import Config

#: PSNR and SSIM on the test videos, from Table 1 (GoPro) and Table 2 (DVD); SST from Table 4. In
#: Tables 5 to 7, all on DVD, a method is the name of a config in ``configs/ablation``.
PUBLISHED: dict[str, dict[str, tuple[float, float]]] = {
    'GoPro': {
        'NAFNet': (33.69, 0.9670),
        'VRT': (34.81, 0.9724),
        'BSSTNet': (35.98, 0.9792),
    },
    'DVD': {
        'VRT': (34.27, 0.9651),
        'SST': (34.97, 0.9704),
        'BSSTNet': (34.95, 0.9703),
        'table5a_neither': (33.78, 0.9645),
        'table5b_bsst_only': (34.74, 0.9692),
        'table5c_bbfp_only': (34.10, 0.9661),
        'table5d_full': (34.95, 0.9703),
        'table6_sffa': (34.82, 0.9696),
        'table7_random50': (33.92, 0.9651),
        'table7_all': (34.98, 0.9704),
        'table7_top25': (34.78, 0.9694),
    },
}
METHODS = {
    'BSSTNet': 'BSSTNet',
    'BasicVSRPlusPlusNet': 'BasicVSR++',
    'FlowBasicVSRPlusPlus': 'BasicVSR++',
    'NAFNet': 'NAFNet',
    'VRT': 'VRT',
    'FlowVRT': 'VRT',
}


def method_of(cfg: Config, stem: str) -> str:
    """The method that a config is, as the paper calls it.

    Args:
        cfg: The config.
        stem: Name of its file without the ending.

    Returns:
        The row of an ablation by its name in ``configs/ablation``, a method by its own name, and
        for anything else ``stem``.
    """
    for row in PUBLISHED['DVD']:
        if row.startswith('table') and stem.startswith(row):
            return row
    generator = cfg.model.get('generator') or {}
    kind = (generator.get('generator') or generator).get('type', '')
    selection = ((generator.get('neck') or {}).get('selection') or {}).get('type')
    if kind == 'BSSTNet' and selection == 'DenseSelection':
        return 'SST'
    return METHODS.get(kind, stem)
