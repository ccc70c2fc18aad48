"""On-the-fly pseudo-labels by a proxy classifier with a reject class (Abbasi et al. 2020, Algorithm 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from detlab.errors import UserError, nearest
from detlab.ops.boxes import clip_boxes
from detlab.pseudo_labels.base import PseudoLabelCallback
from detlab.pseudo_labels.candidates import Regions, find_regions, highest_iou, looked_for, overlapping
from detlab.pseudo_labels.expected import automatic_caps, expected_missing, object_rates
from detlab.pseudo_labels.matched_targets import apply_to_matches, with_boxes
from detlab.pseudo_labels.none import AllBackground
from detlab.structures import Anchors, Batch, Matched, Predictions, PseudoLabels, Targets

if TYPE_CHECKING:
    from detlab.data.datamodule import DetectionDataModule


UNTOLD = 20  # regions per picture for cap=auto where there are no training data to tell


@runtime_checkable
class Classifier(Protocol):
    """K classes by name, and a reject class behind them."""

    @property
    def classes(self) -> Sequence[str]: ...

    def classify(
        self,
        images: Tensor,
        image: Tensor,
        boxes: Tensor,
        patches: int = 3,
        copies: int = 2,
        flip: bool = False,
        generator: torch.Generator | None = None,
        threshold: float | None = None,
    ) -> Tensor:
        """``images [B, 3, H, W]`` normalised, regions image int64 ``[N]``, boxes ``[N, 4]`` xyxy pixels → h̄
        ``[N, K + 1]`` (Eq. 1). A region for which it is settled whether a class reaches `threshold`, and which,
        may be spared the rest of its views."""
        ...


class ProxyPseudoLabels(PseudoLabelCallback):
    """A prediction that overlaps no labelled box gets the label of the proxy classifier, where that is sure.

    classifier: the run folder or checkpoint of a proxy classifier (``detlab train task=proxy``). start: iterations
    before the first pseudo-label, or, below 1, that share of the training, since a random detector's boxes are useless
    (not in the paper). max_iou: θ1.
    confidence: θ2. beta: of Eq. 2; with β > 0, p̃(c) is scaled to the sum that the classifier's part has. patches,
    copies, flip: patch-drop's s and m (Eq. 1), and mirrored views. views: a region is shown "all" of them, and h̄ is
    Eq. 1 to the letter, or only "enough" to settle whether it gets a label and which: h̄ is then the mean of fewer
    views for regions without a label, and for all where confidence is at most 1 − 1 / views (2/3 of three).
    objectness: p̃(O) is the classifier's highest probability ("proxy", the paper), or that times the detector's score
    ("product", traces of the authors' runs, with min_score 0.8).

    To bound the cost, which the paper does not (it sends all A · g² boxes): min_score of the detector, of boxes that
    overlap each other by more than `nms` the best, and of those the best `cap` of an image go to the classifier, the
    best being those that are most likely of a class that nobody looked for (`missing_scores`); cap
    "auto": half as many again as labels are expected to be missing in it, see `automatic_caps`. What becomes of the
    predictions that overlap a pseudo-labelled one by `nms` or more is `neighbours`: "spare" takes them out of the
    losses; "label" gives them its label, as the paper would ask for each of them and mostly hear the same, which makes
    many more positives of such an object than of a labelled one; "background" leaves them background; "assigned" makes
    an object of the labelled prediction's box, with p̃(c) as classes, p̃(O) as weight and no coordinate loss, so that the
    assigner gives it as many positives as any other; "auto" is "assigned" for dense detectors, which have several
    positives for an object, and "spare" where an objectness is predicted (YOLO), as a rule once for an object.

    unsure: what becomes of regions that show a class rather than none, but less surely than `confidence`: "background"
    (the paper), or "spare": no signal, for them and what overlaps them by `nms` or more, or would be assigned to them.

    classes: "any" (the paper), or "unannotated": only such that the image's annotators did not look for. Classes of the
    classifier that the detector does not have count as rejected.

    A detector of two stages (Faster R-CNN) is labelled by boxes: the regions are its proposals, and the sure ones
    become objects of both stages. `neighbours` is then "assigned" whatever it says, and `beta` must be 0, since
    proposals have no class.

    masked: besides, the mask (`PseudoLabelCallback`) for predictions without a label; false, the paper: they are
    background.
    An image whose annotators looked for every class gets no pseudo-labels. Raises ValueError for values out of range,
    UserError where `classifier` cannot be read or shares no class with the detector.
    """

    @staticmethod
    def requires(options: Mapping[str, Any]) -> set[str]:
        return {"class_scores"} if options.get("beta") else set()

    finds_labels = True
    when_many = "raise pseudo.confidence, or train the classifier with more rejects"

    def __init__(
        self,
        classifier: str | Classifier,
        start: float = 0.1,
        max_iou: float = 0.5,
        confidence: float = 0.8,
        beta: float = 0.0,
        patches: int = 3,
        copies: int = 2,
        flip: bool = False,
        views: Literal["enough", "all"] = "enough",
        unsure: Literal["background", "spare"] = "background",
        objectness: Literal["proxy", "product"] = "proxy",
        min_score: float = 0.05,
        nms: float | None = 0.5,
        cap: int | Literal["auto"] | None = "auto",
        neighbours: Literal["auto", "label", "spare", "assigned", "background"] = "auto",
        classes: Literal["any", "unannotated"] = "any",
        masked: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        shares = {"max_iou": max_iou, "confidence": confidence, "beta": beta, "min_score": min_score, "nms": nms}
        for name, share in shares.items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"Expected {name} in [0, 1], got {share}.")
        if start < 0 or copies < 0:
            raise ValueError(f"Expected start and copies of at least 0, got {start} and {copies}.")
        if patches < 1:
            raise ValueError(f"Expected patches of at least 1, got {patches}.")
        if cap not in ("auto", None) and (not isinstance(cap, int) or cap < 1):
            raise ValueError(f"Expected cap of at least 1, auto or null, got {cap!r}.")
        if views not in ("enough", "all"):
            raise ValueError(f"Expected views enough or all, got {views!r}.")
        if unsure not in ("background", "spare"):
            raise ValueError(f"Expected unsure background or spare, got {unsure!r}.")
        if objectness not in ("proxy", "product"):
            raise ValueError(f"Expected objectness proxy or product, got {objectness!r}.")
        if neighbours not in ("auto", "label", "spare", "assigned", "background"):
            raise ValueError(f"Expected neighbours auto, label, spare, assigned or background, got {neighbours!r}.")
        if classes not in ("any", "unannotated"):
            raise ValueError(f"Expected classes any or unannotated, got {classes!r}.")
        self.classifier = load(classifier) if isinstance(classifier, str) else classifier
        self.start, self.max_iou, self.confidence, self.beta = start, max_iou, confidence, beta
        self.patches, self.copies, self.flip, self.views = patches, copies, flip, views
        self.unsure, self.objectness, self.min_score, self.nms = unsure, objectness, min_score, nms
        self.automatic = cap == "auto"
        self.cap = UNTOLD if cap == "auto" else cap
        self.rates: Tensor | None = None  # objects per picture and class, where cap=auto goes by them
        self.neighbours, self.classes, self.masked, self.seed = neighbours, classes, masked, seed
        self._columns: list[int] = []
        self._found = 0  # regions, of all that `label_batch` was asked

    def bind(self, classes: Sequence[str], iterations: int | None = None) -> None:
        if 0 < self.start < 1 and iterations is not None:
            self.start = round(self.start * iterations)
        known = list(self.classifier.classes)
        self._columns = [known.index(name) if name in known else -1 for name in classes]
        if max(self._columns) < 0:
            raise UserError(
                f"pseudo.classifier knows none of the detector's classes ({', '.join(classes)}), but "
                f"{', '.join(known)}: train one on these classes (detlab train task=proxy)."
            )
        for name, column in zip(classes, self._columns, strict=True):
            if column < 0:
                meant = nearest(name, [other for other in known if other not in classes])
                self.summary.append(
                    f"The proxy classifier does not know the class '{name}'{meant}: it will get no pseudo-labels."
                )

    def prepare(self, data: DetectionDataModule) -> None:
        for what in ("mean", "std"):
            own, theirs = getattr(self.classifier, what, None), getattr(data, what)
            if own is not None and list(own) != list(theirs):
                raise UserError(
                    f"pseudo.classifier was trained on pictures normalised with another {what} ({list(own)}) than "
                    f"loader.{what}={list(theirs)}: train one with the same."
                )
        if self.automatic:
            self.rates = torch.from_numpy(object_rates(data.train_index))
            most = int(automatic_caps(torch.from_numpy(data.train_index.annotated), self.rates).max())
            self.summary.append(
                f"The proxy classifier is asked about at most {most} regions of a picture (pseudo.cap=auto): as far as "
                f"labels tell, up to {expected_missing(data.train_index):.1f} objects of a picture have none."
            )

    def transform_targets(self, targets: list[Targets]) -> list[Targets]:
        return targets if self.masked else AllBackground().transform_targets(targets)

    @torch.no_grad()
    def predict_pseudo_labels(
        self,
        batch: Batch,
        anchors: Anchors,  # noqa: ARG002
        predictions: Predictions,
        iteration: int,
    ) -> PseudoLabels | None:
        labels, asked, kept = None, 0, 0
        if self.neighbours == "auto":
            self.neighbours = "assigned" if predictions.objectness is None else "spare"
        self.as_boxes |= self.neighbours == "assigned"
        if iteration >= self.start:
            regions = self.regions(batch, predictions)
            said = self.look(batch, regions, self._generator(batch, iteration))
            chosen = self.label(batch, predictions, regions, said)
            asked, kept = len(regions.image), chosen.size
            labels = self.spread(chosen, self.doubtful(batch, predictions, regions, said), batch, predictions)
        for name, count in (("regions", asked), ("labels", kept)):
            self.log_metrics[f"pseudo_{name}_per_image"] = batch.images.new_tensor(count / max(1, len(batch)))
        return labels

    def append_pseudo_boxes(self, targets: list[Targets], labels: PseudoLabels | None) -> list[Targets]:
        return with_boxes(targets, labels)

    def apply_to_matches(
        self,
        matched: Matched,
        anchors: Anchors,  # noqa: ARG002
        targets: list[Targets],  # noqa: ARG002
        labels: PseudoLabels | None,
    ) -> Matched:
        return apply_to_matches(matched, labels)

    @torch.no_grad()
    def label_batch(self, batch: Batch, predictions: Predictions) -> PseudoLabels:
        regions = self.regions(batch, predictions)
        self._found += len(regions.image)
        self.when_none = self._why_none()
        return self.label(batch, predictions, regions, self.look(batch, regions, self._generator(batch, 0)))

    def regions(self, batch: Batch, predictions: Predictions) -> Regions:
        """What the classifier is asked about (lines 2–8)."""
        cap: int | Tensor | None = self.cap
        if self.rates is not None:
            annotated = looked_for(predictions, batch.targets)
            cap = automatic_caps(annotated, self.rates.to(annotated.device))
        return find_regions(
            predictions, batch.targets, batch.sizes,
            max_iou=self.max_iou, min_score=self.min_score, nms=self.nms, cap=cap,
        )  # fmt: skip

    def look(self, batch: Batch, regions: Regions, generator: torch.Generator | None = None) -> Tensor:
        """What the classifier says of regions (lines 9–11): h̄ ``[N, C + 1]``, of the detector's classes, 0 where the
        classifier does not know one, and of all that the detector does not have, reject included."""
        if isinstance(self.classifier, nn.Module):
            self.classifier.to(batch.images.device)
        said = self.classifier.classify(
            batch.images,
            regions.image,
            regions.boxes,
            self.patches,
            self.copies,
            self.flip,
            generator,
            self.confidence if self.views == "enough" else None,
        ).float()
        columns = torch.tensor(self._columns, device=said.device)
        own = said[:, columns.clamp(min=0)] * (columns >= 0)
        return torch.cat([own, said.index_fill(1, columns[columns >= 0], 0.0).amax(-1, keepdim=True)], 1)

    def doubtful(self, batch: Batch, predictions: Predictions, regions: Regions, said: Tensor) -> Regions:
        """Those that show one of the detector's classes rather than anything else, but not surely, and are to be
        spared for it."""
        highest, winner = said[:, :-1].max(-1)
        spared = (highest >= said[:, -1]) & (highest < self.confidence) & (self.unsure == "spare")
        return regions.select(spared & self._askable(batch, predictions, regions, winner))

    def _askable(self, batch: Batch, predictions: Predictions, regions: Regions, winner: Tensor) -> Tensor:
        """Of regions whose likeliest class is ``winner [N]``: whether that may be missing, as `classes` says."""
        if self.classes == "any":
            return torch.ones_like(winner, dtype=torch.bool)
        return ~looked_for(predictions, batch.targets)[regions.image, winner]

    def label(self, batch: Batch, predictions: Predictions, regions: Regions, said: Tensor) -> PseudoLabels:
        """Of the regions those that the classifier is sure about (lines 12–16), by what it said (`look`)."""
        probs, others = said[:, :-1], said[:, -1]
        highest, winner = probs.max(-1)
        keep = (highest >= self.confidence) & (highest >= others)
        keep &= self._askable(batch, predictions, regions, winner)
        regions, probs, highest = regions.select(keep), probs[keep], highest[keep]
        if self.beta > 0:
            own = class_probabilities(predictions, regions)
            mixed = self.beta * own + (1 - self.beta) * probs
            probs = mixed * (probs.sum(-1) / mixed.sum(-1).clamp(min=1e-12))[:, None]
        objectness = highest if self.objectness == "proxy" else highest * regions.scores
        if self.objectness == "product" and predictions.objectness is None:
            probs = probs * regions.scores[:, None]  # class scores say themselves whether there is an object
        spared = regions.image.new_zeros(0, 3)
        return PseudoLabels(regions.image, regions.anchor, regions.boxes, probs, objectness, regions.anchor, spared)

    def spread(self, labels: PseudoLabels, doubtful: Regions, batch: Batch, predictions: Predictions) -> PseudoLabels:
        """With the predictions that overlap a labelled one, as `neighbours` says, and doubtful regions, which are
        spared: by boxes without weight, or as predictions, with those that overlap them."""
        if self.as_boxes:
            return with_doubtful(labels, doubtful)
        if not labels.size and not len(doubtful.image):
            return labels
        clipped = clip_boxes(predictions.boxes.float(), batch.sizes)
        if len(doubtful.image):
            owner, anchor = overlapping(doubtful, clipped, 1.0 if self.nms is None else self.nms)
            spared = torch.stack([doubtful.image[owner], anchor, doubtful.anchor[owner]], 1)
            labels = labels._replace(ignored=spared)
        if self.neighbours == "background" or self.nms is None or not labels.size:
            return labels
        regions = Regions(labels.image, labels.anchor, labels.boxes, labels.objectness)
        owner, anchor = overlapping(regions, clipped, self.nms)
        image, own = labels.image[owner], labels.anchor[owner]
        if self.neighbours == "spare":
            return labels._replace(ignored=torch.cat([labels.ignored, torch.stack([image, anchor, own], 1)]))
        boxes = clipped[image, anchor]
        free = (own == anchor) | (highest_iou(boxes, image, batch.targets) <= self.max_iou)
        owner, anchor, image, boxes, own = owner[free], anchor[free], image[free], boxes[free], own[free]
        return PseudoLabels(image, anchor, boxes, labels.probs[owner], labels.objectness[owner], own, labels.ignored)

    def _why_none(self) -> str:
        if not self._found:
            return (
                "the detector finds nothing there but what is labelled; train it for longer before the first "
                f"(pseudo.start) or lower pseudo.min_score={self.min_score:g}"
            )
        return (
            f"the classifier is sure of none of the {self._found:,} regions that it was asked about; lower "
            f"pseudo.confidence={self.confidence:g}, or look at the classifier's accuracy"
        )

    def _generator(self, batch: Batch, iteration: int) -> torch.Generator:
        """For the patches: the same in a run that goes on as in one that was never stopped."""
        generator = torch.Generator(device=batch.images.device)
        return generator.manual_seed(self.seed * 1_000_003 + iteration)


def with_doubtful(labels: PseudoLabels, doubtful: Regions) -> PseudoLabels:
    """With labels of no weight (p̃(O) = 0) for doubtful regions: positives of these boxes get no signal."""
    count, classes = len(doubtful.image), labels.probs.shape[1]
    return labels._replace(
        image=torch.cat([labels.image, doubtful.image]),
        anchor=torch.cat([labels.anchor, doubtful.anchor]),
        boxes=torch.cat([labels.boxes, doubtful.boxes]),
        probs=torch.cat([labels.probs, labels.probs.new_full((count, classes), 1 / classes)]),
        objectness=torch.cat([labels.objectness, labels.objectness.new_zeros(count)]),
        source_anchor=torch.cat([labels.source_anchor, doubtful.anchor]),
    )


def class_probabilities(predictions: Predictions, regions: Regions) -> Tensor:
    """p(c) of the detector, summing to 1: ``[N, C]``. Where it predicts an objectness its classes are taken to exclude
    each other (softmax), else its class scores are scaled."""
    logits = predictions.logits[regions.image, regions.anchor].float()
    if predictions.objectness is not None:
        return logits.softmax(-1)
    scores = logits.sigmoid()
    return scores / scores.sum(-1, keepdim=True).clamp(min=1e-12)


def load(path: str) -> Classifier:
    from detlab.proxy_classifier import load_classifier

    return load_classifier(path)
