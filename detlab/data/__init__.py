"""Data: annotation files become an `AnnotationIndex`, its rows become batches.

Readers (`voc`, `coco`, `yolo_txt`, `scenes`, `custom`) each offer a *source*: an object with `name`,
`on_error` and ``load(split) -> (AnnotationIndex, list[Problem])``, where the problems are the records
that could not become rows. `check` looks for what is wrong with the rows themselves.
"""
