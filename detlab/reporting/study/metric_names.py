"""What metrics are called, and the answer to one that is misspelt."""

from __future__ import annotations

import difflib

from detlab.errors import UserError

PER_CLASS = ("AP", "AP50")  # also measured for single classes, as AP/<class>
KNOWN = (
    *("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90", "APs", "APm", "APl", "AR100", "mAP_voc"),
    "AP_rare",  # over the rarest third of the classes by all training labels, withheld ones too; ten at most
    *("oLRP", "oLRP_Loc", "oLRP_FP", "oLRP_FN", "rho"),
    *("AP_lower", "AP75_lower", "AP90_lower", "AP_upper", "AP75_upper", "AP90_upper"),  # of callbacks=bounds
    *("gradient_imbalance", "gradient_swing"),  # of callbacks=gradients
    "IoU_error",  # only of heads that predict the IoU of their boxes
    *("accuracy", "reject_AUROC", "ECE"),  # of proxy classifiers
    *("accuracy_patch_drop", "reject_AUROC_patch_drop", "ECE_patch_drop"),
)

_NEAR = 0.65


def check_metric(name: str, where: str) -> str:
    """`name`, if it may be a metric: a known one, ``AP/<class>``, or one that is like none of these (an experiment may
    measure more). Raises UserError, beginning with `where`, for a near miss of a known one."""
    head, slash, group = name.partition("/")
    known = PER_CLASS if slash else KNOWN
    if head in known and (group or not slash):
        return name
    near = _closest(head)
    if slash and near:
        raise UserError(f"{where}: there is no metric '{name}'; per class there are {' and '.join(PER_CLASS)}/<class>.")
    if near:
        raise UserError(f"{where}: there is no metric '{name}' (did you mean '{near}'?).")
    return name


def _closest(name: str) -> str | None:
    """The known metric that `name` resembles when case and punctuation do not count; None if there is none."""
    plain = {_plain(metric): metric for metric in KNOWN}
    close = difflib.get_close_matches(_plain(name), plain, n=1, cutoff=_NEAR)
    return plain[close[0]] if close else None


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
