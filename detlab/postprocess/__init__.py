"""From dense predictions to final detections, for the whole batch at once.

`Postprocess` makes `Candidates` of predictions and gives them to a `Suppression`, such as `ClassNMS`.
"""

from detlab.postprocess.candidates import Candidates, Suppression
from detlab.postprocess.dense import Postprocess
from detlab.postprocess.nms import ClassNMS, nms_by_class, nms_by_image

__all__ = ["Candidates", "ClassNMS", "Postprocess", "Suppression", "nms_by_class", "nms_by_image"]
