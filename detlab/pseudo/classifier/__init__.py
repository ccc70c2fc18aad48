"""The proxy classifier: which of K classes a RoI shows, or that it shows none of them."""

from detlab.pseudo.classifier.classifier import ProxyClassifier
from detlab.pseudo.classifier.files import load_classifier, save

__all__ = ["ProxyClassifier", "load_classifier", "save"]
