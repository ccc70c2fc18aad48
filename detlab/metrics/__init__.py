"""How good detections are: `DetectionMetrics` (COCO's and VOC's average precision, optimal LRP, rank correlation)."""
