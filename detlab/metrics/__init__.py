"""How good detections are: `DetectionMetrics` (COCO and VOC average precision)."""
