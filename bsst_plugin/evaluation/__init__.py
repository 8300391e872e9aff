from bsst_plugin.evaluation.deblurring_metrics import DeblurringMetrics
from bsst_plugin.evaluation.gaussian_ssim import GaussianSSIM, gaussian_ssim

__all__ = ['DeblurringMetrics', 'GaussianSSIM', 'gaussian_ssim']
