"""The proxy classifier: which of K classes a RoI shows, or that it shows none of them."""

from detlab.proxy_classifier.classifier import ProxyClassifier
from detlab.proxy_classifier.files import load_classifier, save

__all__ = ["ProxyClassifier", "load_classifier", "save"]
