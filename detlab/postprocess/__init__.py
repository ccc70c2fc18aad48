"""From dense predictions to final detections, for the whole batch at once.

`Postprocess` makes `Candidates` of predictions and gives them to a `Suppression`: `ClassNMS` or `SoftNMS`, or
`ScoreVoting` around either.
"""

from detlab.postprocess.candidates import Candidates, Suppression, best_of_images
from detlab.postprocess.dense import Postprocess
from detlab.postprocess.nms import ClassNMS, nms_by_class, nms_by_image
from detlab.postprocess.soft_nms import SoftNMS
from detlab.postprocess.voting import ScoreVoting, score_voting

__all__ = [
    "Candidates",
    "ClassNMS",
    "Postprocess",
    "ScoreVoting",
    "SoftNMS",
    "Suppression",
    "best_of_images",
    "nms_by_class",
    "nms_by_image",
    "score_voting",
]
